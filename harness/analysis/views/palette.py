"""The colours and markers that figures tell arms apart by."""

# Okabe and Ito's colour-blind-safe palette, darkened where it is too pale for lines on white; the reference is ink
PALETTE = ("#333333", "#0072b2", "#d55e00", "#009e73", "#c0569b", "#c98a00", "#3fa2dc", "#8c5a3c")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
