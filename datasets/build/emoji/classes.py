"""The classes: Unicode's sub-groups, merged within their group until each has at least 15 items.

Sub-groups that are too small and fit no neighbour are left out: emotion, family, person-symbol, hotel, time.
"""

COARSE = {
    "smileys-emotion": "smileys",
    "people-body": "people",
    "animals-nature": "animals_plants",
    "food-drink": "food_drink",
    "travel-places": "travel_places",
    "activities": "activities",
    "objects": "objects",
    "symbols": "symbols",
}

FINE = {
    "face_positive": "face-smiling face-affection face-tongue face-hand face-hat face-glasses",
    "face_negative": "face-neutral-skeptical face-sleepy face-unwell face-concerned face-negative",
    "face_creature": "face-costume cat-face monkey-face",
    "heart": "heart",
    "hand": "hand-fingers-open hand-fingers-partial hand-single-finger hand-fingers-closed hands hand-prop",
    "body_part": "body-parts",
    "person": "person person-gesture",
    "role": "person-role person-fantasy",
    "action": "person-activity person-sport person-resting",
    "mammal": "animal-mammal",
    "bird": "animal-bird",
    "scaly_marine": "animal-amphibian animal-reptile animal-marine",
    "bug": "animal-bug",
    "plant": "plant-flower plant-other",
    "fruit": "food-fruit",
    "vegetable": "food-vegetable",
    "dish": "food-prepared food-asian food-sweet",
    "drink": "drink dishware",
    "ground_vehicle": "transport-ground",
    "water_air_vehicle": "transport-water transport-air",
    "building": "place-building place-religious",
    "place_other": "place-other",
    "geography": "place-map place-geographic",
    "sky_weather": "sky-weather",
    "event": "event",
    "sport_award": "sport award-medal",
    "game": "game arts-crafts",
    "clothing": "clothing",
    "sound_music": "sound music musical-instrument",
    "device": "phone computer light-video",
    "office": "office writing",
    "paper_mail": "book-paper money mail",
    "tool": "tool science medical lock",
    "household": "household other-object",
    "sign": "transport-sign warning",
    "arrow_av": "arrow av-symbol",
    "letter_digit": "keycap alphanum",
    "belief": "religion zodiac",
    "mark_shape": "gender math punctuation currency other-symbol geometric",
}

FINE_OF = {subgroup: name for name, subgroups in FINE.items() for subgroup in subgroups.split()}
