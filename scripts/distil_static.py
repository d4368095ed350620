"""Distil MiniLM into the static embedder: `static.npy`, `static.txt`, `static.json` beside `static.py`.

A static embedder looks up one vector per word and adds them. This script finds those vectors, in five steps, each of
which keeps its result in the work folder and is skipped when the result is there:

1. `texts`: plain text from Debian packages (named in `PACKAGES`) and Debian's own package descriptions. No benchmark
   data, no scraped text; anyone can fetch the same bytes.
2. `words`: whole words that WordPiece would cut but that are frequent in those texts, to get a vector of their own.
3. `teacher`: MiniLM over every vocabulary entry alone, and over a sample of the texts; kept are the unit vector of
   each text and, per entry, the mean of its contextual vectors (Bommasani et al., ACL 2020).
4. `fit`: start from those two means, then least squares by gradient (Adam, arXiv 1412.6980) so that the weighted sum of
   a text's vectors points where MiniLM points. Word weights (arXiv "A simple but tough-to-beat baseline for sentence
   embeddings", Arora et al., ICLR 2017) are the start of the lengths; the fit moves them.
5. `write`: principal components, one int8 scale per dimension, files.

Run: `python scripts/distil_static.py --minilm FOLDER --work FOLDER [--minutes 10]` with numpy, onnx and onnxruntime
installed, on a Debian machine (apt-get download, dpkg-deb). Everything random takes `SEED`; the teacher's time limit is
in texts, not in seconds, so the result does not depend on the machine's speed.
"""
