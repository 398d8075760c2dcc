"""Promoters and organisms by logistic regression on k-mer counts: what a model has to beat.

python examples/papers/mergedna/kmers.py
"""

import os
from pathlib import Path

import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline

DATA = Path(os.environ.get("POLYMODAL_DATA", "../shared/data"))
FILES = {"promoter": "promoters/promoters.csv", "organism": "genomes/organism-windows.csv"}


def main() -> None:
    for name, file in FILES.items():
        table = pd.read_csv(DATA / file)
        for k in (1, 3, 6):
            counts = TfidfVectorizer(analyzer="char", ngram_range=(k, k), lowercase=False)
            model = make_pipeline(counts, LogisticRegression(C=10, max_iter=1000))
            folds = StratifiedKFold(4, shuffle=True, random_state=0)
            found = cross_val_score(model, table["sequence"], table["label"], cv=folds)
            print(f"{name}, {k}-mers: {found.mean():.3f}")


if __name__ == "__main__":
    main()
