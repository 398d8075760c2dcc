"""What the data-flow extractor has to know of each language, in the node types of its grammar."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Final

from tree_sitter import Language, Parser

Part = str | int
"""A part of a node: its children in a field, or its named child by number."""

Kinds = frozenset[str]


def _kinds(words: str) -> Kinds:
    return frozenset(words.split())


@dataclass(frozen=True)
class Grammar:
    """A tree-sitter grammar and what its nodes do to variables."""

    module: str
    names: Kinds  # leaves that name a variable
    assigns: Mapping[str, tuple[Part, Part | None]]  # node: where its targets and its value are
    loops: Kinds
    function: str = "language"  # of the module
    atoms: Kinds = frozenset()  # tokens although they have children: strings
    comments: Kinds = frozenset({"comment"})
    docstrings: Kinds = frozenset()  # statements that say nothing if they are but a string
    updates: Kinds = frozenset()  # assignments that read their target, too, whatever the operator
    definitions: Kinds = frozenset()  # assignments whose flow the authors' code calls "comesFrom"
    lists: Kinds = frozenset()  # targets or values side by side
    wrappers: Kinds = frozenset()  # what each value of a list stands in
    members: Mapping[str, Part] = field(default_factory=dict)  # target: the part that is written
    labels: frozenset[tuple[str, str]] = frozenset()  # (node, field): a name, but no variable
    arms: Kinds = frozenset()  # children of which at most one is run
    arm_fields: frozenset[tuple[str, str]] = frozenset()
    open_arms: Kinds = frozenset()  # alternatives that may be passed over
    last_arms: Kinds = frozenset()  # taken if no other is
    guards: Kinds = frozenset()  # the body comes first, and is run if the condition holds
    run_once: Kinds = frozenset()  # loops whose body is run before the condition is asked
    keyed: Kinds = frozenset()  # targets in which "key => target" reads the key
    first: Kinds = frozenset()  # children that are run before those to their left
    heads: Kinds = frozenset()  # children of loops that hold parts of them


GRAMMARS: Final[Mapping[str, Grammar]] = {
    "python": Grammar(
        module="tree_sitter_python",
        names=_kinds("identifier"),
        atoms=_kinds("string"),
        docstrings=_kinds("expression_statement"),
        assigns={
            "assignment": ("left", "right"),
            "augmented_assignment": ("left", "right"),
            "named_expression": ("name", "value"),
            "default_parameter": ("name", "value"),
            "typed_default_parameter": ("name", "value"),
            "for_statement": ("left", "right"),
            "for_in_clause": ("left", "right"),
            "as_pattern": ("alias", 0),
        },
        updates=_kinds("augmented_assignment"),
        definitions=_kinds("default_parameter typed_default_parameter"),
        lists=_kinds("pattern_list tuple_pattern list_pattern expression_list tuple list"),
        members={"attribute": "attribute", "subscript": "value"},
        labels=frozenset({("keyword_argument", "name")}),
        loops=_kinds("for_statement while_statement"),
        arms=_kinds("except_clause except_group_clause"),
        open_arms=_kinds("elif_clause case_clause"),
        first=_kinds("for_in_clause if_clause"),
    ),
    "java": Grammar(
        module="tree_sitter_java",
        names=_kinds("identifier"),
        atoms=_kinds("string_literal"),
        comments=_kinds("line_comment block_comment"),
        assigns={
            "assignment_expression": ("left", "right"),
            "variable_declarator": ("name", "value"),
            "resource": ("name", "value"),
            "enhanced_for_statement": ("name", "value"),
            "instanceof_expression": ("name", "left"),
            "update_expression": (0, None),
        },
        updates=_kinds("update_expression"),
        definitions=_kinds("variable_declarator"),
        members={"field_access": "field", "array_access": "array"},
        loops=_kinds("for_statement enhanced_for_statement while_statement do_statement"),
        arms=_kinds("catch_clause switch_block_statement_group switch_rule"),
        run_once=_kinds("do_statement"),
    ),
    "ruby": Grammar(
        module="tree_sitter_ruby",
        names=_kinds("identifier instance_variable class_variable global_variable constant"),
        atoms=_kinds("string"),
        assigns={
            "assignment": ("left", "right"),
            "operator_assignment": ("left", "right"),
            "optional_parameter": ("name", "value"),
            "keyword_parameter": ("name", "value"),
            "for": ("pattern", "value"),
        },
        updates=_kinds("operator_assignment"),
        definitions=_kinds("optional_parameter keyword_parameter"),
        lists=_kinds(
            "left_assignment_list right_assignment_list destructured_left_assignment array"
        ),
        members={"call": "method", "element_reference": "object"},
        loops=_kinds("for while until while_modifier until_modifier"),
        arms=_kinds("when in_clause rescue"),
        last_arms=_kinds("else"),
        guards=_kinds("if_modifier unless_modifier while_modifier until_modifier"),
    ),
    "go": Grammar(
        module="tree_sitter_go",
        names=_kinds("identifier field_identifier"),
        atoms=_kinds("interpreted_string_literal raw_string_literal"),
        assigns={
            "assignment_statement": ("left", "right"),
            "short_var_declaration": ("left", "right"),
            "var_spec": ("name", "value"),
            "const_spec": ("name", "value"),
            "range_clause": ("left", "right"),
            "receive_statement": ("left", "right"),
            "type_switch_statement": ("alias", "value"),
            "inc_statement": (0, None),
            "dec_statement": (0, None),
        },
        updates=_kinds("inc_statement dec_statement"),
        definitions=_kinds("var_spec const_spec"),
        lists=_kinds("expression_list"),
        members={"selector_expression": "field", "index_expression": "operand"},
        loops=_kinds("for_statement"),
        arms=_kinds("expression_case type_case communication_case"),
        last_arms=_kinds("default_case"),
        heads=_kinds("for_clause"),
    ),
    "php": Grammar(
        module="tree_sitter_php",
        function="language_php_only",
        names=_kinds("variable_name name"),
        atoms=_kinds("string encapsed_string variable_name"),
        assigns={
            "assignment_expression": ("left", "right"),
            "reference_assignment_expression": ("left", "right"),
            "augmented_assignment_expression": ("left", "right"),
            "simple_parameter": ("name", "default_value"),
            "property_promotion_parameter": ("name", "default_value"),
            "property_element": ("name", "default_value"),
            "static_variable_declaration": ("name", "value"),
            "foreach_statement": (1, 0),
            "update_expression": (0, None),
        },
        updates=_kinds("augmented_assignment_expression update_expression"),
        definitions=_kinds("simple_parameter property_promotion_parameter"),
        lists=_kinds("list_literal array_creation_expression"),
        wrappers=_kinds("array_element_initializer"),
        keyed=_kinds("list_literal"),
        members={
            "member_access_expression": "name", "nullsafe_member_access_expression": "name",
            "scoped_property_access_expression": "name", "subscript_expression": 0,
        },
        loops=_kinds("for_statement foreach_statement while_statement do_statement"),
        arms=_kinds("catch_clause case_statement"),
        run_once=_kinds("do_statement"),
        arm_fields=frozenset({("if_statement", "body")}),
        open_arms=_kinds("else_if_clause"),
        last_arms=_kinds("default_statement"),
    ),
    "javascript": Grammar(
        module="tree_sitter_javascript",
        names=_kinds(
            "identifier property_identifier private_property_identifier "
            "shorthand_property_identifier shorthand_property_identifier_pattern"
        ),
        atoms=_kinds("string template_string"),
        assigns={
            "assignment_expression": ("left", "right"),
            "augmented_assignment_expression": ("left", "right"),
            "variable_declarator": ("name", "value"),
            "assignment_pattern": ("left", "right"),
            "object_assignment_pattern": ("left", "right"),
            "field_definition": ("property", "value"),
            "for_in_statement": ("left", "right"),
            "update_expression": (0, None),
        },
        updates=_kinds("augmented_assignment_expression update_expression"),
        definitions=_kinds("variable_declarator"),
        lists=_kinds("array_pattern array"),
        members={"member_expression": "property", "subscript_expression": "object"},
        labels=frozenset({("pair_pattern", "key"), ("pair", "key")}),
        loops=_kinds("for_statement for_in_statement while_statement do_statement"),
        arms=_kinds("catch_clause switch_case"),
        run_once=_kinds("do_statement"),
        last_arms=_kinds("switch_default"),
    ),
}  # fmt: skip


@cache
def parser_of(language: str) -> Parser:
    """Return the parser of a language of `GRAMMARS`, made once.

    Raises:
        ImportError: its package is not installed.
    """
    grammar = GRAMMARS[language]
    module = import_module(grammar.module)
    return Parser(Language(getattr(module, grammar.function)()))
