"""stub"""
def covers_ears(character): return False
def draw_hair(ink, character, look): pass
def draw_hair_behind_body(ink, character, look): pass
def draw_hair_behind_head(ink, character, look): pass
