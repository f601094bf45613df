"""Choose the OpenGL backend of MuJoCo, before the import of dm_control fixes it."""

import ctypes
import importlib
import os
import sys

# Packages of Debian and Ubuntu.
_PACKAGES = {"egl": "libegl1 libgl1-mesa-dri", "osmesa": "libosmesa6"}
# dm_control's words for its backends; it takes them in small letters only.
_SPELLED = {"": "", "egl": "egl", "osmesa": "osmesa"}
_SPELLED |= dict.fromkeys(("glfw", "on", "enable", "enabled", "true", "1"), "glfw")
_SPELLED |= dict.fromkeys(("off", "disable", "disabled", "false", "0"), "disabled")
_DEVICES = 16
_PLATFORM_DEVICE = 0x313F  # EGL_PLATFORM_DEVICE_EXT


def choose_backend(what: str, renders: bool = True) -> None:
    """Set `MUJOCO_GL` to a backend that works on this machine; if it is set, check that it works.

    Tries EGL (on a graphics card, or Mesa without one), then OSMesa. On other systems than Linux,
    or with a display, dm_control's own choice works too.

    Args:
        what: the call that needs a backend, for the error message.
        renders: whether something will be rendered, or dm_control only imported.

    Raises:
        RuntimeError: no backend works, or not the requested one; names the remedy.
    """
    checks = {"egl": _egl_works, "osmesa": _osmesa_is_there}
    asked = _asked(what)
    names = [asked] if asked else list(checks)
    chosen = next((name for name in names if name not in checks or checks[name]()), "")
    screen = sys.platform != "linux" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    if asked and not chosen:
        raise RuntimeError(
            f"{what} should use MUJOCO_GL={asked}, which does not work on this machine; "
            f"`apt-get install {_PACKAGES[asked]}` adds it; without MUJOCO_GL, another is tried"
        )
    if renders and chosen == "disabled":
        raise RuntimeError(
            f"{what} needs OpenGL, which MUJOCO_GL={os.environ['MUJOCO_GL']} turns off; without "
            f"MUJOCO_GL, EGL and OSMesa are tried"
        )
    if renders and chosen == "glfw" and not screen:
        raise RuntimeError(
            f"{what} should use MUJOCO_GL=glfw, which opens a window, and this machine has no "
            f"display; without MUJOCO_GL, EGL and OSMesa are tried, which need none"
        )
    if not chosen and not screen:
        raise RuntimeError(
            f"{what} needs OpenGL, but this machine has neither EGL nor OSMesa to render with; "
            f"`apt-get install {_PACKAGES['egl']}` or `apt-get install {_PACKAGES['osmesa']}` "
            f"adds one"
        )
    if chosen:  # in small letters: dm_control takes no others
        os.environ["MUJOCO_GL"] = chosen
    renderer = sys.modules.get("dm_control._render")
    if renderer is not None and chosen not in ("", renderer.BACKEND):
        # dm_control chose its own backend when an environment without pixels was built.
        importlib.reload(renderer)


def _asked(what: str) -> str:
    """The backend that `MUJOCO_GL` names; "" if it names none."""
    given = os.environ.get("MUJOCO_GL", "")
    asked = _SPELLED.get(given.strip().lower())
    if asked is None:
        raise RuntimeError(
            f"{what} found MUJOCO_GL={given!r}; it takes egl, osmesa or glfw, or disabled where "
            f"nothing is rendered; without it, EGL and OSMesa are tried"
        )
    return asked


def _osmesa_is_there() -> bool:
    for name in ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False


def _egl_works() -> bool:
    """Whether EGL is installed and one of its devices starts, tried as dm_control does."""
    try:
        egl = ctypes.CDLL("libEGL.so.1")
        find = egl.eglGetProcAddress
    except (OSError, AttributeError):
        return False
    find.restype, find.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    query, display = find(b"eglQueryDevicesEXT"), find(b"eglGetPlatformDisplayEXT")
    if not query or not display:
        return False
    pointer, count = ctypes.c_void_p, ctypes.c_int(0)
    devices = (pointer * _DEVICES)()
    query = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, pointer, pointer)(query)
    display = ctypes.CFUNCTYPE(pointer, ctypes.c_uint, pointer, pointer)(display)
    egl.eglInitialize.argtypes = [pointer] * 3
    if not query(_DEVICES, ctypes.addressof(devices), ctypes.addressof(count)):
        return False
    displays = (display(_PLATFORM_DEVICE, device, None) for device in devices[: count.value])
    return any(one and egl.eglInitialize(one, None, None) for one in displays)
