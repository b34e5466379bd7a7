"""What the simulated shop sells, in words: departments, categories, kinds of goods with a typical price, brands.

The kinds of a category stand in the order in which people come to need them: after a tent comes a sleeping bag.
"""

from __future__ import annotations

# department -> category -> kind -> typical price in euros
TREE: dict[str, dict[str, dict[str, int]]] = {
    "Outdoor": {
        "Camping": {"tent": 180, "sleeping bag": 90, "sleeping mat": 45, "camping stove": 60, "lantern": 25},
        "Running": {"running shoe": 110, "running sock": 12, "running jacket": 80, "water belt": 25, "head torch": 35},
        "Cycling": {"city bike": 600, "bike helmet": 70, "bike lock": 45, "pannier": 65, "floor pump": 40},
        "Climbing": {"climbing shoe": 120, "harness": 75, "chalk bag": 18, "climbing rope": 150, "carabiner": 14},
    },
    "Home": {
        "Bedroom": {"bed frame": 350, "mattress": 420, "duvet": 95, "bed linen": 60, "bedside lamp": 40},
        "Living room": {"sofa": 800, "coffee table": 150, "rug": 120, "floor lamp": 90, "cushion": 22},
        "Bathroom": {"bath towel": 18, "bath mat": 24, "shower curtain": 28, "soap dish": 12, "laundry basket": 35},
        "Garden": {"garden chair": 65, "garden table": 180, "parasol": 90, "planter": 30, "string lights": 25},
    },
    "Kitchen": {
        "Coffee": {"espresso machine": 380, "coffee grinder": 130, "tamper": 28, "milk jug": 20, "espresso cup": 14},
        "Baking": {"stand mixer": 290, "mixing bowl": 22, "cake tin": 18, "rolling pin": 15, "piping set": 19},
        "Cooking": {"frying pan": 55, "saucepan": 48, "chef's knife": 75, "cutting board": 32, "knife sharpener": 26},
        "Table": {"dinner plate": 12, "wine glass": 9, "cutlery set": 70, "tablecloth": 34, "serving bowl": 27},
    },
    "Electronics": {
        "Photography": {"camera": 750, "zoom lens": 420, "memory card": 35, "camera bag": 60, "tripod": 110},
        "Gaming": {"console": 420, "controller": 60, "gaming headset": 85, "capture card": 120, "gaming desk": 210},
        "Home office": {"monitor": 260, "keyboard": 70, "mouse": 40, "laptop stand": 38, "webcam": 75},
        "Audio": {"turntable": 280, "amplifier": 340, "speaker": 230, "speaker cable": 18, "record sleeve": 11},
    },
    "Fashion": {
        "Winter": {"winter coat": 190, "wool sweater": 85, "scarf": 35, "gloves": 30, "winter boot": 140},
        "Summer": {"linen shirt": 55, "shorts": 40, "sandal": 65, "sunglasses": 90, "straw hat": 32},
        "Business": {"suit jacket": 220, "suit trousers": 110, "dress shirt": 60, "leather belt": 45, "tie": 30},
        "Travel": {"suitcase": 150, "travel backpack": 120, "packing cube": 20, "neck pillow": 25, "toiletry bag": 28},
    },
    "Beauty": {
        "Skin care": {"cleanser": 18, "toner": 22, "serum": 38, "moisturiser": 30, "sun cream": 20},
        "Hair care": {"shampoo": 12, "conditioner": 13, "hair mask": 19, "hair oil": 24, "hair dryer": 70},
        "Make-up": {"primer": 24, "foundation": 34, "mascara": 19, "lipstick": 21, "make-up remover": 14},
        "Nails": {"base coat": 9, "nail polish": 11, "top coat": 10, "nail file": 5, "cuticle oil": 12},
    },
    "Family": {
        "Baby": {"pushchair": 480, "cot": 220, "baby monitor": 95, "high chair": 110, "baby spoon": 9},
        "Building toys": {"brick box": 40, "brick castle": 90, "train track": 55, "toy train": 45, "figure set": 25},
        "School": {"school bag": 85, "pencil case": 18, "exercise book": 4, "fountain pen": 22, "lunch box": 16},
        "Board games": {"family game": 35, "strategy game": 55, "game expansion": 30, "card sleeve": 8, "dice set": 12},
    },
    "Studio": {
        "Painting": {"sketchbook": 15, "oil paint": 28, "paint brush": 12, "canvas": 24, "easel": 95},
        "Guitar": {"acoustic guitar": 260, "guitar strings": 12, "guitar tuner": 20, "guitar strap": 25, "gig bag": 60},
        "Sewing": {"sewing machine": 240, "fabric": 18, "thread set": 14, "fabric scissors": 26, "dress pattern": 13},
        "Woodwork": {"cordless drill": 130, "drill bit set": 35, "hand saw": 28, "clamp": 16, "wood glue": 9},
    },
}

STYLES: dict[str, tuple[str, ...]] = {
    "Outdoor": ("trail", "alpine", "light", "all-weather", "expedition"),
    "Home": ("oak", "linen", "nordic", "modern", "classic"),
    "Kitchen": ("steel", "compact", "professional", "copper", "everyday"),
    "Electronics": ("wireless", "compact", "studio", "silent", "pro"),
    "Fashion": ("slim", "classic", "merino", "relaxed", "recycled"),
    "Beauty": ("sensitive", "matte", "organic", "intense", "gentle"),
    "Family": ("wooden", "colourful", "foldable", "first", "deluxe"),
    "Studio": ("beginner's", "workshop", "concert", "fine", "precision"),
}

VARIANTS: dict[str, tuple[str, ...]] = {
    "Outdoor": ("men, 42", "men, 44", "women, 38", "women, 40", "unisex", "junior"),
    "Home": ("white", "sand", "anthracite", "forest green", "small", "large"),
    "Kitchen": ("black", "red", "cream", "set of 2", "set of 4", "large"),
    "Electronics": ("black", "silver", "white", "second generation", "refurbished"),
    "Fashion": ("men, M", "men, L", "women, S", "women, M", "navy", "camel"),
    "Beauty": ("30 ml", "50 ml", "100 ml", "travel size", "refill"),
    "Family": ("from 1 year", "from 3 years", "from 6 years", "blue", "yellow"),
    "Studio": ("small", "medium", "large", "starter set", "left-handed"),
}

# Brand names are made of a beginning and an end; none is meant to exist.
BRAND_BEGINNINGS = (
    *("Nord", "Fjell", "Casta", "Vela", "Brim", "Holt", "Lumi", "Arva", "Tessa", "Quill", "Osker", "Mara"),
    *("Pelle", "Runa", "Silva", "Tarn", "Ulven", "Wester", "Ysra", "Zeph", "Ember", "Dover", "Galen", "Inka"),
)
BRAND_ENDS = (
    *("wald", "ro", "lane", "mark", "field", "by", "ora", "stad", "wick", "ell"),
    *("haus", "mont", "berg", "ista", "vik", "ford", "ane", "dal", "orn", "ley"),
)
