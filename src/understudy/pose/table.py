"""The named poses, as angles of the rig.

Left and right in a name are the picture's; `right_arm` is the character's own, which is at the
picture's left when the character faces the viewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .rig import Angles, Reach, Rig


@dataclass(frozen=True)
class Entry:
    """One pose of the library: a rig of its own, or the mirror image of another entry."""

    name: str
    category: str
    description: str
    rig: Rig | None = None
    mirror_of: str | None = None


def pose(name: str, category: str, description: str, **angles: Any) -> Entry:
    """An entry with a rig of its own."""
    return Entry(name, category, description, rig=Rig(**angles))


def mirror(name: str, category: str, description: str, of: str) -> Entry:
    """An entry that mirrors another one."""
    return Entry(name, category, description, mirror_of=of)


def at(anchor: str, out: float, up: float, forward: float, elbow: Angles = (60, 0)) -> Reach:
    """A hand at a place near a joint."""
    return Reach(anchor, out, up, forward, elbow)


ON_HIP = at("own_hip", 0.035, 0.045, 0.02, elbow=(80, -25))
FOLDED = at("neck", -0.05, -0.11, 0.06, elbow=(35, 10))
ON_LAP = at("own_knee", -0.01, 0.03, 0.0, elbow=(50, -40))
LEVEL = ((90, 0), (90, 0))
LOW_OUT = ((45, 0), (45, 5))
RAISED = ((150, 0), (168, 0))
APART = ((9, 0), (7, 0))

# fmt: off
ENTRIES = [
    pose("stand", "standing", "Standing, arms relaxed at the sides.", yaw=6),
    pose("contrapposto", "standing", "Weight on one leg, hip out, the other knee loose.",
         yaw=8, lean=-4, tilt=7, shoulder_tilt=7, hip_tilt=-10, right_leg=((5, 180), (1, 0)),
         left_leg=((18, 30), (2, 180)), right_arm=((15, 0), (12, 20)), left_arm=ON_HIP),
    pose("a_pose", "standing", "Arms lowered to 45 degrees, as on model sheets.",
         right_arm=LOW_OUT, left_arm=LOW_OUT, right_leg=APART, left_leg=APART),
    pose("t_pose", "standing", "Arms stretched out level.",
         right_arm=LEVEL, left_arm=LEVEL, right_leg=APART, left_leg=APART),
    pose("hands_on_hips", "standing", "Both hands on the hips, feet apart.",
         right_arm=ON_HIP, left_arm=ON_HIP, right_leg=APART, left_leg=APART),
    pose("arms_crossed", "standing", "Arms folded over the chest.",
         yaw=-6, right_arm=FOLDED, left_arm=at("neck", -0.045, -0.125, 0.06, elbow=(35, 10))),
    pose("hands_behind_back", "standing", "Hands clasped behind the back.", yaw=-14, nod=4,
         right_arm=at("pelvis", 0.0, 0.09, -0.07, elbow=(70, -20)),
         left_arm=at("pelvis", 0.0, 0.08, -0.07, elbow=(70, -20)), hidden=("right_wrist", "left_wrist")),
    pose("attention", "standing", "Upright and stiff, heels together.",
         right_arm=((4, 0), (1, 0)), left_arm=((4, 0), (1, 0)),
         right_leg=((3, 180), (3, 180)), left_leg=((3, 180), (3, 180))),
    pose("lean_on_wall", "standing", "Leaning back on a wall, one foot up against it.",
         yaw=58, look=30, bend=-10, right_arm=FOLDED,
         left_arm=at("neck", -0.045, -0.125, 0.06, elbow=(35, 10)),
         right_leg=((16, 90), (16, 88)), left_leg=((50, 88), (42, -85))),

    # Views
    pose("three_quarter_right", "view", "Standing, turned half to the right.",
         yaw=42, look=40, right_arm=((10, 10), (12, 70)), left_arm=((12, 20), (10, 60))),
    mirror("three_quarter_left", "view", "Standing, turned half to the left.", of="three_quarter_right"),
    pose("side_right", "view", "Standing in profile, facing right.",
         yaw=82, look=80, right_arm=((6, 60), (14, 88)), left_arm=((9, 75), (16, 88)),
         right_leg=((5, 90), (4, -60)), left_leg=((3, -90), (8, -90))),
    mirror("side_left", "view", "Standing in profile, facing left.", of="side_right"),
    pose("back_view", "view", "Standing, seen from behind.",
         yaw=180, look=180, right_leg=((5, 0), (3, 0)), left_leg=((5, 0), (3, 0))),
    pose("back_three_quarter", "view", "Walking away to the right, seen from behind.",
         yaw=145, look=140, right_arm=((14, 40), (22, 70)), left_arm=((20, -70), (8, -40)),
         right_leg=((16, -85), (26, -85)), left_leg=((20, 85), (4, 80))),
    pose("look_back", "view", "Walking away, the head turned back over the shoulder.",
         yaw=150, look=62, right_arm=((16, 20), (14, 40)), left_arm=((14, 10), (12, 40)),
         right_leg=((12, -80), (20, -80)), left_leg=((14, 80), (3, 80))),
    pose("look_up", "view", "Looking up, head back.", yaw=22, look=22, nod=24, bend=-5, neck_bend=-12,
         right_arm=((16, 10), (14, 30)), left_arm=((16, 10), (14, 30))),
    pose("look_down", "view", "Looking down, shoulders low.", yaw=16, look=16, nod=-19, bend=6, neck_bend=20,
         right_arm=((10, 40), (10, 60)), left_arm=((10, 40), (10, 60))),

    # Gestures
    pose("wave", "gesture", "Waving with one hand.", yaw=6, tilt=4,
         left_arm=((100, 0), (168, 0)), right_arm=((14, 0), (10, 20))),
    pose("wave_both", "gesture", "Waving with both hands.", nod=3,
         right_arm=((105, 0), (165, 0)), left_arm=((105, 0), (165, 0)), right_leg=APART, left_leg=APART),
    pose("point", "gesture", "Pointing to the side.", yaw=8, look=26,
         left_arm=((88, 5), (90, 5)), right_arm=ON_HIP),
    pose("point_up", "gesture", "One finger up: an idea.", yaw=-6, nod=5,
         right_arm=((118, 10), (176, 0)), left_arm=((18, 0), (12, 10))),
    pose("point_forward", "gesture", "Pointing ahead, weight on the front foot.", yaw=62, look=58, lean=4,
         right_arm=((90, 88), (92, 88)), left_arm=((24, -60), (20, 60)),
         right_leg=((22, 88), (4, 80)), left_leg=((20, -85), (28, -85))),
    pose("think", "gesture", "Hand at the chin, the other arm under the elbow.", yaw=-12, look=-4,
         tilt=-5, nod=-4,
         right_arm=at("head", -0.01, -0.115, 0.09, elbow=(20, 30)),
         left_arm=at("neck", -0.06, -0.15, 0.07, elbow=(40, 0))),
    pose("shrug", "gesture", "Palms up, shoulders raised: who knows?", tilt=8, nod=2,
         right_arm=((30, 10), (105, 10)), left_arm=((30, 10), (105, 10)), right_leg=APART, left_leg=APART),
    pose("salute", "gesture", "A hand at the brow.",
         right_arm=at("head", 0.105, 0.03, 0.05, elbow=(85, 0)), left_arm=((4, 0), (2, 0)),
         right_leg=((3, 180), (3, 180)), left_leg=((3, 180), (3, 180))),
    pose("facepalm", "gesture", "Face in the palm, head low.", yaw=-10, look=-6, nod=-14, tilt=-8,
         neck_bend=12,
         right_arm=at("head", 0.02, 0.0, 0.13, elbow=(50, 20)), left_arm=((12, 0), (8, 20))),
    pose("clap", "gesture", "Clapping in front of the chest.", yaw=14, look=6, nod=4,
         right_arm=at("neck", 0.018, -0.045, 0.12, elbow=(45, 0)),
         left_arm=at("neck", 0.018, -0.045, 0.12, elbow=(45, 0))),
    pose("pray", "gesture", "Palms together, head bowed.", nod=-16, neck_bend=10,
         right_arm=at("neck", 0.012, -0.09, 0.09, elbow=(50, 0)),
         left_arm=at("neck", 0.012, -0.09, 0.09, elbow=(50, 0))),
    pose("hug", "gesture", "Arms wide open for a hug.", yaw=8, nod=5, tilt=-5,
         right_arm=((72, 25), (82, 50)), left_arm=((78, 25), (92, 50)), right_leg=APART, left_leg=APART),
    pose("stop", "gesture", "A palm held out to the right: stop!", yaw=54, look=48,
         right_arm=((86, 84), (100, 86)), left_arm=((18, -40), (12, 10)),
         right_leg=((14, 84), (2, 80)), left_leg=((14, -80), (18, -84))),
    pose("thumbs_up", "gesture", "A fist with the thumb up, held forward.", yaw=-10, tilt=4,
         left_arm=((28, 40), (112, 40)), right_arm=ON_HIP),
    pose("hand_on_heart", "gesture", "One hand on the heart.", tilt=5, nod=3,
         right_arm=at("neck", -0.03, -0.07, 0.06, elbow=(45, 0)), left_arm=((13, 0), (10, 20))),
    pose("listen", "gesture", "A hand cupped behind the ear.", lean=9, look=-22, tilt=4,
         left_arm=at("head", 0.125, 0.0, 0.0, elbow=(80, 0)), right_arm=ON_HIP,
         left_leg=((12, 0), (2, 0)), right_leg=((2, 0), (8, 0))),
    pose("shy", "gesture", "Hands clasped low, one knee turned in.", tilt=9, nod=-8, lean=-3, yaw=12,
         right_arm=at("pelvis", 0.008, 0.0, 0.08, elbow=(50, 0)),
         left_arm=at("pelvis", 0.008, 0.0, 0.08, elbow=(50, 0)),
         left_leg=((8, 160), (12, 20)), right_leg=((3, 0), (2, 0))),

    # Joy
    pose("arms_up", "joy", "Both arms straight up.", nod=5,
         right_arm=RAISED, left_arm=RAISED, right_leg=APART, left_leg=APART),
    pose("cheer", "joy", "One fist in the air, one knee up.", yaw=10, look=8, lean=4, nod=8,
         right_arm=((160, 0), (176, 0)), left_arm=((35, -10), (125, 30)),
         left_leg=((52, 40), (8, -60)), right_leg=((3, 0), (1, 0))),
    pose("victory", "joy", "Arms in a V, feet wide.", nod=6,
         right_arm=((138, 0), (142, 0)), left_arm=((138, 0), (142, 0)),
         right_leg=((20, 0), (18, 0)), left_leg=((20, 0), (18, 0))),
    pose("flex", "joy", "Showing both biceps.", yaw=4,
         right_arm=((92, 0), (190, 0)), left_arm=((92, 0), (190, 0)), right_leg=APART, left_leg=APART),
    pose("hero", "joy", "Fists on the hips, chest out, chin up, feet wide.", yaw=24, look=34, nod=8, bend=-4,
         right_arm=ON_HIP, left_arm=ON_HIP, right_leg=((17, 0), (13, 0)), left_leg=((17, 0), (13, 0))),

    # Moving
    pose("walk", "moving", "Walking to the right.", yaw=64, look=52, lean=3,
         right_arm=((30, -78), (14, -60)), left_arm=((28, 78), (46, 84)),
         right_leg=((32, 90), (6, 84)), left_leg=((24, -90), (42, -90))),
    mirror("walk_left", "moving", "Walking to the left.", of="walk"),
    pose("walk_forward", "moving", "Walking towards the viewer.", yaw=10, look=6,
         right_arm=((16, -50), (10, 30)), left_arm=((18, 60), (34, 75)),
         right_leg=((24, 84), (2, 80)), left_leg=((10, -80), (34, -88))),
    pose("run", "moving", "Running to the right.", yaw=66, look=54, lean=9,
         right_arm=((58, -75), (26, 80)), left_arm=((36, 78), (118, 85)),
         right_leg=((58, 90), (6, -80)), left_leg=((26, -90), (82, -90))),
    mirror("run_left", "moving", "Running to the left.", of="run"),
    pose("sprint", "moving", "Running flat out, leaning far forward.", yaw=72, look=62, lean=20,
         right_arm=((76, -80), (35, -85)), left_arm=((62, 80), (128, 86)),
         right_leg=((80, 90), (22, -85)), left_leg=((42, -90), (66, -90))),
    pose("sneak", "moving", "On tiptoe, knees bent, hands before the chest.", yaw=62, look=54, lean=16,
         nod=-4,
         right_arm=((30, 70), (100, 80)), left_arm=((40, 75), (118, 80)),
         right_leg=((66, 88), (14, -85)), left_leg=((16, 80), (50, -88))),
    pose("march", "moving", "Marching, one knee high.", yaw=60, look=52,
         right_arm=((36, -78), (22, -70)), left_arm=((52, 82), (60, 86)),
         right_leg=((84, 88), (2, 80)), left_leg=((2, 0), (2, 0))),
    pose("skip", "moving", "Skipping happily.", yaw=60, look=44, lean=-4, nod=8, tilt=-4,
         right_arm=((58, -70), (48, -60)), left_arm=((70, 70), (100, 76)),
         right_leg=((76, 88), (8, -70)), left_leg=((10, -85), (30, -85))),
    pose("climb", "moving", "Climbing up, seen from behind.", yaw=172, look=168, nod=12,
         right_arm=((150, 20), (172, 20)), left_arm=((95, 20), (172, 20)),
         right_leg=((12, 20), (4, 0)), left_leg=((76, 16), (6, 140))),
    pose("balance", "moving", "On a tightrope, arms out, one foot before the other.", yaw=4, lean=5, tilt=-8,
         right_arm=((104, 0), (108, 0)), left_arm=((72, 0), (70, 0)),
         right_leg=((7, 170), (5, 150)), left_leg=((28, 60), (32, -70))),

    # In the air
    pose("jump", "air", "Jumping up, arms high, legs drawn in.", yaw=16, look=12, nod=8,
         right_arm=((140, 0), (165, 0)), left_arm=((140, 0), (165, 0)),
         right_leg=((42, 50), (58, -75)), left_leg=((30, 20), (70, -70))),
    pose("star_jump", "air", "Jumping with arms and legs spread like a star.", nod=4,
         right_arm=((122, 0), (125, 0)), left_arm=((122, 0), (125, 0)),
         right_leg=((38, 0), (36, 0)), left_leg=((38, 0), (36, 0))),
    pose("leap", "air", "A long leap to the right.", yaw=68, look=54, lean=8, nod=4,
         right_arm=((96, 80), (100, 80)), left_arm=((96, -75), (88, -75)),
         right_leg=((78, 90), (74, 90)), left_leg=((66, -90), (74, -90))),
    pose("fly", "air", "Flying like a hero, one fist ahead.", yaw=38, look=24, tip=66, tilt=-52, nod=6,
         left_arm=((172, 20), (176, 20)), right_arm=((16, 0), (12, 20)),
         right_leg=((5, 0), (4, 0)), left_leg=((5, 0), (26, -80))),
    pose("fall", "air", "Falling backwards, limbs flying up.", yaw=40, look=26, tip=-58, tilt=8,
         right_arm=((104, 60), (120, 70)), left_arm=((96, 20), (118, 30)),
         right_leg=((80, 80), (44, 84)), left_leg=((52, 70), (20, 80))),

    # Action
    pose("kick", "action", "A high kick to the right.", yaw=58, look=54, lean=-16, tilt=8,
         right_arm=((40, 40), (110, 80)), left_arm=((52, -20), (60, 0)),
         right_leg=((92, 88), (94, 88)), left_leg=((4, -60), (6, -80))),
    pose("punch", "action", "A straight punch to the right.", yaw=56, look=60, lean=8, twist=44,
         right_arm=((90, 88), (90, 88)), left_arm=((30, 60), (140, 95)),
         right_leg=((34, 85), (2, 80)), left_leg=((32, -80), (40, -82))),
    pose("guard", "action", "A boxer's guard, fists up.", yaw=38, look=34, nod=-4,
         right_arm=((30, 60), (150, 80)), left_arm=((42, 72), (140, 82)),
         right_leg=((16, 40), (4, 20)), left_leg=((22, -40), (14, -80))),
    pose("lunge", "action", "A deep lunge to the right, sword arm out.", yaw=66, look=60, lean=7,
         right_arm=((92, 84), (94, 86)), left_arm=((100, -60), (140, -50)),
         right_leg=((74, 88), (2, 80)), left_leg=((52, -88), (56, -88))),
    pose("throw", "action", "Drawn back to throw a ball.", yaw=52, look=58, lean=-10,
         right_arm=((100, -50), (160, -60)), left_arm=((88, 60), (92, 60)),
         right_leg=((10, -60), (16, -85)), left_leg=((46, 80), (10, 80))),
    pose("catch", "action", "Both hands up to catch a ball.", yaw=28, look=24, nod=10, bend=-3,
         right_arm=((112, 50), (146, 70)), left_arm=((112, 50), (146, 70)),
         right_leg=((20, 30), (10, -30)), left_leg=((22, 30), (10, -30))),
    pose("carry", "action", "Carrying a box in both arms.", yaw=32, look=26, bend=-5,
         right_arm=((18, 20), (88, 90)), left_arm=((18, 20), (88, 90)),
         right_leg=((14, 80), (4, 70)), left_leg=((10, -70), (16, -80))),
    pose("push", "action", "Pushing something heavy to the right.", yaw=74, look=70, lean=26, nod=-6,
         right_arm=((94, 82), (92, 86)), left_arm=((86, 82), (88, 86)),
         right_leg=((52, 88), (10, -85)), left_leg=((28, -88), (36, -88))),
    pose("pull", "action", "Pulling a rope, leaning back.", yaw=66, look=62, lean=-24, tilt=12,
         right_arm=((76, 82), (84, 86)), left_arm=((60, 80), (92, 86)),
         right_leg=((46, 86), (30, 86)), left_leg=((38, 80), (-6, 80))),
    pose("swing_sword", "action", "A sword raised over the shoulder in both hands.", yaw=30, look=34, lean=-4,
         right_arm=at("head", 0.13, 0.02, 0.02, elbow=(100, 40)),
         left_arm=at("neck", -0.11, 0.03, 0.12, elbow=(60, 60)),
         right_leg=((22, 20), (12, -30)), left_leg=((30, 50), (8, 30))),
    pose("draw_bow", "action", "An archer at full draw, aiming right.", yaw=8, look=62,
         left_arm=((92, 0), (92, 0)), right_arm=((100, -20), (86, 165)),
         right_leg=((16, 0), (12, 0)), left_leg=((16, 0), (12, 0))),

    # Dance and exercise
    pose("dance", "dance", "Dancing, one arm up, hips swinging.", yaw=-10, look=4, lean=7, tilt=-8,
         hip_tilt=8,
         right_arm=((135, 0), (178, 0)), left_arm=((60, 0), (20, 60)),
         right_leg=((24, 20), (2, 20)), left_leg=((10, 0), (14, 180))),
    pose("disco", "dance", "One arm to the sky, hip out.", yaw=8, look=22, lean=-7, nod=6, hip_tilt=-9,
         left_arm=((142, 0), (144, 0)), right_arm=ON_HIP,
         right_leg=((8, 0), (2, 180)), left_leg=((26, 10), (16, 0))),
    pose("ballet", "dance", "An arabesque on one leg.", yaw=64, look=52, lean=16, tilt=-14,
         right_arm=((114, 70), (112, 80)), left_arm=((92, -40), (88, -40)),
         right_leg=((2, 90), (2, -90)), left_leg=((84, -88), (88, -88))),
    pose("twirl", "dance", "Spinning on one foot, arms rounded overhead.", yaw=-14, look=10, tilt=4,
         right_arm=((128, 10), (200, 10)), left_arm=((128, 10), (200, 10)),
         right_leg=((2, 0), (1, 0)), left_leg=((48, 10), (46, 176))),
    pose("bow", "dance", "A deep bow, one arm across the belly.", yaw=52, look=46, bend=48,
         neck_bend=74, nod=-30,
         right_arm=at("pelvis", 0.0, 0.11, 0.15, elbow=(70, 0)), left_arm=((52, -60), (66, -60)),
         right_leg=((6, 85), (2, -80)), left_leg=((4, -80), (5, -85))),
    pose("stretch", "dance", "Bending to the side, one arm over the head.", lean=22, tilt=4,
         right_arm=((148, 0), (200, 0)), left_arm=ON_HIP, right_leg=((14, 0), (12, 0)),
         left_leg=((14, 0), (12, 0))),
    pose("yoga_tree", "dance", "On one leg, sole at the other knee, palms joined.",
         right_arm=at("neck", 0.012, -0.09, 0.09, elbow=(60, 0)),
         left_arm=at("neck", 0.012, -0.09, 0.09, elbow=(60, 0)),
         right_leg=((1, 0), (1, 180)), left_leg=((56, 6), (58, 174))),
    pose("squat", "dance", "A deep squat, knees wide, hands joined.", nod=3,
         right_arm=at("neck", 0.014, -0.1, 0.09, elbow=(50, 0)),
         left_arm=at("neck", 0.014, -0.1, 0.09, elbow=(50, 0)),
         right_leg=((76, 20), (6, 160)), left_leg=((76, 20), (6, 160))),
    pose("cartwheel", "dance", "Half-way round a cartwheel.", tip=128, look=10, tilt=-10,
         right_arm=((128, 0), (128, 0)), left_arm=((128, 0), (128, 0)),
         right_leg=((40, 0), (40, 0)), left_leg=((40, 0), (40, 0))),

    # Sitting and low
    pose("sit", "low", "Sitting on a chair, turned half to the right.", yaw=48, look=38,
         right_arm=ON_LAP, left_arm=ON_LAP, right_leg=((86, 86), (4, 90)), left_leg=((86, 78), (8, -80))),
    pose("sit_side", "low", "Sitting on a chair in profile, facing right.", yaw=82, look=74,
         right_arm=((28, 82), (64, 86)), left_arm=((24, 82), (60, 86)),
         right_leg=((88, 90), (3, 90)), left_leg=((86, 86), (10, -86))),
    pose("sit_front", "low", "Sitting on a chair, facing the viewer, knees apart.", yaw=8, nod=3,
         right_arm=ON_LAP, left_arm=ON_LAP, right_leg=((80, 50), (5, 160)), left_leg=((80, 50), (5, 160))),
    pose("sit_cross_legged", "low", "Sitting cross-legged on the floor.", yaw=6,
         right_arm=ON_LAP, left_arm=ON_LAP, right_leg=((76, 22), (82, 168)), left_leg=((76, 22), (76, 166))),
    pose("sit_floor", "low", "Sitting on the floor, leaning back on the hands, legs out.", yaw=62,
         look=48, lean=-16, nod=4,
         right_arm=((42, -70), (26, -60)), left_arm=((40, -70), (24, -60)),
         right_leg=((112, 88), (50, 86)), left_leg=((88, 84), (86, 84))),
    pose("hug_knees", "low", "Sitting on the floor, arms around the knees.", yaw=74, look=56, bend=12, nod=-6,
         right_arm=at("own_knee", 0.0, -0.07, 0.05, elbow=(60, 20)),
         left_arm=at("own_knee", 0.0, -0.06, 0.06, elbow=(60, 20)),
         right_leg=((134, 88), (24, 86)), left_leg=((130, 86), (20, 86))),
    pose("read", "low", "Sitting, reading a book held in both hands.", yaw=56, look=48, nod=-16, neck_bend=14,
         right_arm=((20, 60), (98, 92)), left_arm=((20, 60), (98, 92)),
         right_leg=((86, 86), (4, 90)), left_leg=((86, 82), (14, -80))),
    pose("kneel", "low", "Kneeling upright on both knees.", yaw=54, look=40,
         right_arm=((14, 40), (40, 85)), left_arm=((14, 40), (40, 85)),
         right_leg=((8, 80), (86, -88)), left_leg=((6, 80), (86, -88))),
    pose("propose", "low", "On one knee, a hand held out.", yaw=60, look=52, nod=8,
         right_arm=((64, 78), (94, 84)), left_arm=at("neck", -0.02, -0.1, 0.06, elbow=(45, 0)),
         right_leg=((88, 86), (2, 80)), left_leg=((8, 60), (86, -88))),
    pose("crouch", "low", "Crouching low, hands near the floor.", yaw=62, look=48, bend=34, neck_bend=14,
         right_arm=((34, 80), (20, 80)), left_arm=((44, 80), (26, 80)),
         right_leg=((112, 84), (34, -86)), left_leg=((96, 82), (30, -86))),
    pose("crawl", "low", "Crawling on hands and knees to the right.", yaw=76, look=58, bend=80, neck_bend=48,
         right_arm=((26, 85), (12, 80)), left_arm=((12, -80), (2, 0)),
         right_leg=((4, -80), (84, -88)), left_leg=((26, 86), (80, -88))),
    pose("push_up", "low", "At the top of a push-up, facing right.", yaw=82, look=70, bend=70, neck_bend=58,
         right_arm=((4, 80), (3, -80)), left_arm=((6, 80), (2, 80)),
         right_leg=((72, -89), (72, -89)), left_leg=((70, -89), (74, -89))),
    pose("lie", "low", "Lying on the back, arms loose, one knee up.", yaw=30, look=24, tip=-88, tilt=2,
         right_arm=((30, 0), (24, 40)), left_arm=((24, 60), (18, 80)),
         right_leg=((5, 0), (4, 0)), left_leg=((52, 84), (44, -86))),
    pose("sleep", "low", "Asleep on the side, head on the hands, knees drawn up.", yaw=36, look=30,
         tip=-86, nod=-8,
         right_arm=at("head", 0.02, -0.115, 0.08, elbow=(40, 60)),
         left_arm=at("head", -0.05, -0.125, 0.08, elbow=(40, 60)),
         right_leg=((58, 80), (30, -84)), left_leg=((44, 76), (36, -84))),
]
# fmt: on
