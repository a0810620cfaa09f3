"""The tracker's costly parts in their plain form, as papers write them and most code computes them.

They exist to be compared with: `tools/benchmark.py` measures the project's own forms against these, on the
same weights, and the tests show that both give the same answers. Nothing in `lib/` uses them.

    attention.py  the attention matrix formed in every block
    memory.py     a list of entries, joined at each frame, and the whole affinity matrix
    loading.py    whole images mirrored and grey, masks of the padding as floats, jitter of float crops
    forms.py      puts the first two into a tracker, and takes them out again
"""
