// One pointer drags, two pinch: mouse, pen and fingers alike.

/** `drag(x, y, event)` in px since the last call; `pinch(factor)` since the last call. */
export function pointers(node, { drag, pinch }) {
  const down = new Map();
  const distance = () => {
    const [one, other] = [...down.values()];
    return Math.hypot(one.x - other.x, one.y - other.y);
  };
  node.addEventListener("pointerdown", (event) => {
    down.set(event.pointerId, { x: event.clientX, y: event.clientY });
    node.setPointerCapture(event.pointerId);
  });
  node.addEventListener("pointermove", (event) => {
    const from = down.get(event.pointerId);
    if (!from) return;
    const before = down.size === 2 ? distance() : 0;
    down.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (down.size === 2 && before > 0) pinch(distance() / before);
    else if (down.size === 1) drag(event.clientX - from.x, event.clientY - from.y, event);
  });
  for (const end of ["pointerup", "pointercancel"]) node.addEventListener(end, (event) => down.delete(event.pointerId));
}
