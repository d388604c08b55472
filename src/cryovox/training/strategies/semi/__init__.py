"""SemiETPicker and other semi-supervised heatmap pickers."""
