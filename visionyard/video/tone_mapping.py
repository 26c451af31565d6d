"""Turn pictures of high dynamic range (PQ and HLG, ITU-R BT.2100) into those that every screen and model expects.

The scene's light is found again, its highlights are pressed below the white of a usual screen, its colours are brought
into those of BT.709. White is 203 cd/m2, where BT.2408 puts the white of graphics and of a sheet of paper; light up to
1000 cd/m2, the peak of HLG and of most gradings, keeps its order, brighter light is white. The peak is the same for
every clip, whatever its metadata say: the same light gives the same pixel. Light up to about 90 cd/m2 is left as it is.
"""

import numpy as np

PQ, HLG = 16, 18  # transfer characteristics of ITU-T H.273
BT2020 = 9  # colour primaries of ITU-T H.273

_WHITE_NITS, _PEAK_NITS, _PQ_PEAK_NITS = 203.0, 1000.0, 10000.0
# BT.2100, table 4.
_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 4096 * 128, 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
# BT.2100, table 5; the system gamma is that of a screen of 1000 cd/m2.
_A, _B, _C, _GAMMA = 0.17883277, 0.28466892, 0.55991073, 1.2
_LUMA_2020 = np.array([0.2627, 0.6780, 0.0593], np.float32)
# BT.2087, section 2; rows are R, G, B of BT.709.
_BT2020_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
# BT.1886: how a screen turns a signal into light.
_SCREEN_GAMMA = 2.4
# Rows at a time, so that memory does not grow with the picture.
_BAND_ROWS = 128
# The 16 bits that swscale makes of a limited range end here.
_WHITE_CODE = 65283
_SIGNALS = np.minimum(np.arange(65536) / _WHITE_CODE, 1)


def pq_to_nits(signal: np.ndarray) -> np.ndarray:
    """Return the light of a PQ signal in [0, 1], in cd/m2; BT.2100, table 4, EOTF."""
    power = np.power(signal, 1 / _M2)
    return np.asarray(_PQ_PEAK_NITS * np.power(np.maximum(power - _C1, 0) / (_C2 - _C3 * power), 1 / _M1))


def nits_to_pq(nits: np.ndarray) -> np.ndarray:
    """Return the PQ signal in [0, 1] of a light in cd/m2; BT.2100, table 4, inverse EOTF."""
    power = np.power(np.asarray(nits) / _PQ_PEAK_NITS, _M1)
    return np.asarray(np.power((_C1 + _C2 * power) / (1 + _C3 * power), _M2))


def hlg_to_scene(signal: np.ndarray) -> np.ndarray:
    """Return the light of the scene, in [0, 1], of an HLG signal in [0, 1]; BT.2100, table 5, inverse OETF."""
    return np.where(signal <= 0.5, np.square(signal) / 3, (np.exp((signal - _C) / _A) + _B) / 12)


def pressed(nits: np.ndarray) -> np.ndarray:
    """Return a light after its highlights are pressed: as it is up to the knee, `_WHITE_NITS` from `_PEAK_NITS` on.

    Source: Report ITU-R BT.2390-10, section 5.4.1 (EETF), black left as it is.
    """
    peak, white = nits_to_pq(np.array([_PEAK_NITS, _WHITE_NITS]))
    most = white / peak
    knee = 1.5 * most - 0.5
    signal = np.minimum(nits_to_pq(nits) / peak, 1)
    t = np.clip((signal - knee) / (1 - knee), 0, 1)
    curve = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    return pq_to_nits(np.where(signal < knee, signal, curve) * peak)


_PQ_NITS = pq_to_nits(_SIGNALS).astype(np.float32)
_HLG_SCENE = hlg_to_scene(_SIGNALS).astype(np.float32)
# What highlights are multiplied by, over light in steps that the eye sees alike.
_STEPS_NITS = pq_to_nits(np.linspace(0, nits_to_pq(np.array(_PQ_PEAK_NITS)), 2048)).astype(np.float32)
_GAINS = np.divide(pressed(_STEPS_NITS), _STEPS_NITS, out=np.ones(2048), where=_STEPS_NITS > 0).astype(np.float32)


def to_sdr(rgb: np.ndarray, *, transfer: int, primaries: int) -> np.ndarray:
    """Return a picture of high dynamic range as a usual one.

    Args:
        rgb: (H, W, 3) uint16, as swscale makes it.
        transfer: `PQ` or `HLG`.
        primaries: Colour primaries as in ITU-T H.273; other than `BT2020` are left as they are.

    Returns:
        (H, W, 3) uint8.
    """
    image = np.empty(rgb.shape, np.uint8)
    for top in range(0, len(rgb), _BAND_ROWS):
        band = rgb[top : top + _BAND_ROWS]
        nits = _PQ_NITS[band] if transfer == PQ else _displayed(_HLG_SCENE[band])
        # All three alike, by the strongest of them: the hue stays.
        nits *= np.interp(nits.max(axis=2), _STEPS_NITS, _GAINS)[..., np.newaxis].astype(np.float32)
        if primaries == BT2020:
            nits = nits @ _BT2020_TO_BT709.T
        light = np.clip(nits / _WHITE_NITS, 0, 1)
        image[top : top + _BAND_ROWS] = np.rint(255 * np.power(light, 1 / _SCREEN_GAMMA))
    return image


def _displayed(scene: np.ndarray) -> np.ndarray:
    """Return the light on a screen of 1000 cd/m2, in cd/m2; BT.2100, table 5, OOTF."""
    luminance = scene @ _LUMA_2020
    return np.asarray(_PEAK_NITS * np.power(luminance, _GAMMA - 1)[..., np.newaxis] * scene, np.float32)
