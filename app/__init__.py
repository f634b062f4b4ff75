"""What a person sees and clicks: the window, its panels and views. Knows the engine; holds no science."""
