"""A model without pre-training: character n-grams and logistic regression.

python examples/papers/urlbert/ngrams.py
"""

from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline

from polymodal import read_config
from polymodal.runs.build import Builder

HERE = Path(__file__).parent
TASKS = [
    ("small.yaml", "labelled", "url", "category"),
    ("small.yaml", "swapped", "url", "category"),
    ("small.yaml", "labelled", "url", "phishing"),
    ("small.yaml", "swapped", "url", "phishing"),
    ("real.yaml", "addresses", "path", "site"),
]


def rows(source, split, text, label):
    """The texts and labels of a split's rows that have both."""
    found = source.read(split, range(source.size(split)))
    kept = [row for row in found if row.get(text) and row.get(label)]
    return [row[text] for row in kept], [row[label] for row in kept]


def main():
    for file, name, text, label in TASKS:
        source = Builder(read_config(HERE / file)).sources[name]
        model = make_pipeline(
            TfidfVectorizer(analyzer="char", ngram_range=(1, 5), sublinear_tf=True),
            LogisticRegression(C=100, max_iter=1000),
        )
        model.fit(*rows(source, "train", text, label))
        texts, truth = rows(source, "validation", text, label)
        score = f1_score(truth, model.predict(texts), average="macro")
        print(f"{label} of {name}: macro F1 {score:.3f} on {len(truth)} rows")


if __name__ == "__main__":
    main()
