"""SNOMED CT codes of what objects are called, as DICOM wants them (PS3.16, context groups 7150 and below)."""

from __future__ import annotations

import re
from dataclasses import dataclass

Triple = tuple[str, str, str]  # code value, coding scheme, meaning

ANATOMY: Triple = ("91723000", "SCT", "Anatomical Structure")
MORPHOLOGY: Triple = ("49755003", "SCT", "Morphologically Abnormal Structure")
TISSUE: Triple = ("85756007", "SCT", "Tissue")
SUBSTANCE: Triple = ("91720002", "SCT", "Body Substance")
SIDES: dict[str, Triple] = {
    "left": ("7771000", "SCT", "Left"),
    "right": ("24028007", "SCT", "Right"),
    "both": ("51440002", "SCT", "Bilateral"),
}
PRIVATE_SCHEME = "99SAMED2"

# meaning as in PS3.16, code, further names; tests compare the codes with pydicom's copy of the standard
_ANATOMY = """
Liver 10200004 | Spleen 78961009 | Pancreas 15776009 | Kidney 64033007 | Gallbladder 28231008 gall bladder
Stomach 69695003 | Duodenum 38848004 | Esophagus 32849002 oesophagus | Small intestine 30315005 small bowel
Large intestine 14742008 large bowel | Colon 71854001 | Sigmoid colon 60184004 | Cecum 32713005 caecum
Appendix 66754008 | Rectum 34402009 | Jejunum 21306003 | Ileum 34516001 | Adrenal gland 23451007 adrenal
Bladder 89837001 urinary bladder | Ureter 87953007 | Urethra 13648007 | Prostate 41216001 prostate gland
Seminal Vesicle 64739004 | Testis 40689003 testicle | Uterus 35039007 | Cervix 71252005 | Ovary 15497006
Vagina 76784001 | Placenta 78067005 | Breast 76752008 | Heart 80891009 | Left ventricle 87878005 lv
Right ventricle 53085002 rv | Left atrium 82471001 la | Right atrium 73829009 ra | Pericardium 76848001
Left Ventricle Myocardium 49848007 myocardium of left ventricle | Mitral Valve 91134007 | Aortic Valve 34202007
Aorta 15825003 | Aortic arch 57034009 | Thoracic aorta 113262008 | Inferior vena cava 64131007 ivc
Superior vena cava 48345005 svc | Portal vein 32764006 | Hepatic vein 8993003 | Pulmonary artery 81040000
Pulmonary vein 122972007 | Carotid Artery 69105007 | Coronary artery 41801008 | Iliac artery 10293006
Artery 51114001 | Vein 29092000 | Blood Vessel 59820001 vessel | Lung 39607008 | Trachea 44567001
Bronchus 955009 | Larynx 4596009 | glottis 1307006 | Pharynx 54066008 | Mediastinum 72410000
Diaphragm 5798000 | Thymus 9875009 | Thyroid 69748006 thyroid gland | Parotid gland 45289007 parotid
Submandibular gland 54019009 | Lacrimal gland 13561001 | Mandible 91609006 | Maxilla 70925003 | Tooth 38199008
Tongue 21974007 | oral cavity 74262004 | Soft palate 49460000 | Brain 12738006 | Brain Stem 119238007 brainstem
Cerebellum 113305005 | Midbrain 61962009 | Hippocampus 5366008 | Amygdala 4958002 | Thalamus 42695009
Caudate Nucleus 11000004 caudate | Putamen 89278009 | Globus Pallidus 14738005 pallidum | Corpus callosum 88442005
Lateral Ventricle 66720007 | White Matter 389080008 | Gray Matter 389081007 grey matter | Pituitary 56329008
Spinal cord 2748008 | Eye 81745001 eyeball | Lens 78076003 | optic nerve 18234004 | Optic chiasm 244453006
optic nerve head 81016008 optic disc | Retina 5665001 | Iris 41296002 | Cornea 28726007 | Ear 117590005 | Skull 89546000
Vertebra 51282000 | Sacrum 54735007 | Pelvis 816092008 | Rib 113197003 | Sternum 56873002 | Clavicle 51299004
Scapula 79601000 | Humerus 85050009 | Radius 131190003 | Ulna 23416004 | Femur 71341001 | Patella 64234005
Tibia 12611008 | Fibula 87342007 | Meniscus 74135004 | Bone 272673000 | Muscle 71616004 | Cartilage 309312004
Nerve 91728009 | Skin 39937001 | Lymph Node 59441001 | Head 69536005
"""
_MORPHOLOGY = """
Lesion 52988006 | Neoplasm 108369006 tumor|tumour | Nodule 27925004 | Mass 4147007 | Cyst 367643001
Metastasis 128462008 | Edema 79654002 oedema | Necrosis 6574001 | Hemorrhage 50960005 haemorrhage|bleeding
Hematoma 35566002 haematoma | Abscess 44132006 | Aneurysm 85659009 | Ulcer 56208002 | Thrombus 396339007
Effusion 41699000
"""
_SUBSTANCE = "Cerebrospinal Fluid 65216001 csf"


@dataclass(frozen=True)
class ObjectCode:
    """What a segment is: category, type, and the side where the name says one; codes are (value, scheme, meaning)."""

    category: Triple
    type: Triple
    side: Triple | None = None
    region: Triple | None = None


def _table(text: str) -> dict[str, Triple]:
    found: dict[str, Triple] = {}
    for row in re.split(r"\s\|\s|\n", text):
        parts = re.fullmatch(r"\s*(\D+?) (\d+)(?: (.+?))?\s*", row)
        if parts is None:
            continue
        meaning, code, others = parts.groups()
        for name in (meaning, *(others or "").split("|")):
            if name:
                found[name.lower()] = (code, "SCT", meaning)
    return found


ANATOMIC = _table(_ANATOMY)
MORPHOLOGIC = _table(_MORPHOLOGY)
SUBSTANCES = _table(_SUBSTANCE)


def code_of(name: str) -> ObjectCode:
    """The codes of an object by its name ("left kidney", "lung_nodule", "Liver tumour").

    A name that is not known gets the category Tissue and a private code whose meaning is the name itself.
    """
    words = [word for word in re.split(r"[\W_]+", name.lower()) if word]
    whole = _lookup(" ".join(words), None)
    if whole is not None:
        return whole
    sides = [word for word in words if word in ("left", "right", "both", "bilateral")]
    side = SIDES["both" if sides[0] == "bilateral" else sides[0]] if len(sides) == 1 else None
    rest = [word for word in words if word not in sides]
    found = _lookup(" ".join(rest), side) if len(sides) <= 1 else None
    if found is not None:
        return found
    found = _lesion_of(rest, side) if len(sides) <= 1 else None
    if found is not None:
        return found
    text = dicom_text(name) or "unnamed object"
    return ObjectCode(TISSUE, (_slug(name.strip() or text), PRIVATE_SCHEME, text))


def dicom_text(text: str, limit: int = 64) -> str:
    """Text as one DICOM value: printable, no backslash (which separates values), at most `limit` characters."""
    clean = "".join(letter if letter.isprintable() else " " for letter in text.replace("\\", "/"))
    return " ".join(clean.split())[:limit].strip()


def _lookup(name: str, side: Triple | None) -> ObjectCode | None:
    for candidate in (name, name.removesuffix("s")):
        for table, category in ((ANATOMIC, ANATOMY), (MORPHOLOGIC, MORPHOLOGY), (SUBSTANCES, SUBSTANCE)):
            if candidate in table:
                return ObjectCode(category, table[candidate], side)
    return None


def _lesion_of(words: list[str], side: Triple | None) -> ObjectCode | None:
    """A finding in an organ, such as "liver lesion": the finding as type, the organ as its region."""
    for cut in range(1, len(words)):
        organ = _lookup(" ".join(words[:cut]), None)
        finding = _lookup(" ".join(words[cut:]), None)
        if organ and finding and organ.category == ANATOMY and finding.category == MORPHOLOGY:
            return ObjectCode(MORPHOLOGY, finding.type, side, organ.type)
    return None


def _slug(text: str) -> str:
    """A code value (at most 16 characters) that is the same for the same name."""
    import hashlib

    plain = re.sub(r"[^A-Z0-9]+", "_", text.upper()).strip("_")
    if re.fullmatch(r"[A-Za-z0-9]+([ _][A-Za-z0-9]+)*", text) and len(plain) <= 16:
        return plain
    return (plain[:9] + "_" if plain else "") + hashlib.sha256(text.encode()).hexdigest()[:6].upper()
