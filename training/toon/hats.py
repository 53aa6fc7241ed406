"""stub"""
def draw_hat(ink, character, look): pass
def draw_hat_behind(ink, character, look): pass
