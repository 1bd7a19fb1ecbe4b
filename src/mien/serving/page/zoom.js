// Zoom and pan of the image: buttons, keys, mouse wheel with Ctrl, two fingers; a double click zooms to a place and back.

const MOST = 10;

export class Zoom {
  constructor(stage, frame, changed) {
    Object.assign(this, { stage, frame, changed, enabled: true, pointers: new Map() });
    this.reset();
    stage.addEventListener("wheel", (event) => {
      if (!this.enabled || !(event.ctrlKey || event.metaKey || this.scale > 1)) return;
      event.preventDefault();
      this.by(Math.exp(-event.deltaY / 300), event);
    }, { passive: false });
    stage.addEventListener("dblclick", (event) => this.enabled && !event.target.closest("button") && this.by(this.scale > 1 ? 0 : 3, event));
    stage.addEventListener("keydown", (event) => {
      const factor = { "+": 1.5, "=": 1.5, "-": 1 / 1.5, 0: 0 }[event.key];
      if (factor !== undefined && this.enabled && !event.ctrlKey) this.by(factor);
    });
    stage.addEventListener("pointerdown", (event) => this.down(event));
    stage.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel", "pointerleave"]) stage.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
    stage.addEventListener("click", (event) => this.dragged && (event.stopPropagation(), (this.dragged = false)), { capture: true });
  }

  reset() {
    this.scale = 1;
    this.x = this.y = 0;
    this.apply();
  }

  // Zoom by a factor, 0 for the whole image; the place under `at` (a pointer event, or the center) stays where it is.
  by(factor, at) {
    const box = this.stage.getBoundingClientRect();
    const dx = at ? at.clientX - box.left - box.width / 2 : 0, dy = at ? at.clientY - box.top - box.height / 2 : 0;
    const scale = factor === 0 ? 1 : Math.min(Math.max(this.scale * factor, 1), MOST), change = scale / this.scale;
    this.x = dx - (dx - this.x) * change;
    this.y = dy - (dy - this.y) * change;
    this.scale = scale;
    this.apply();
  }

  apply() {
    this.frame.style.setProperty("--zoom", this.scale);
    const room = (inner, outer) => Math.max(0, (inner - outer) / 2);
    const [x, y] = [room(this.frame.offsetWidth, this.stage.clientWidth), room(this.frame.offsetHeight, this.stage.clientHeight)];
    this.x = Math.min(Math.max(this.x, -x), x);
    this.y = Math.min(Math.max(this.y, -y), y);
    this.frame.style.translate = `${this.x}px ${this.y}px`;
    this.stage.classList.toggle("zoomed", this.scale > 1);
    this.changed();
  }

  down(event) {
    if (!this.enabled || event.target.closest("button")) return;
    this.pointers.set(event.pointerId, event);
    this.dragged = false;
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const other = [...this.pointers.values()].find((each) => each.pointerId !== event.pointerId);
    const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
    if (!other && (this.scale === 1 || (!this.dragged && Math.hypot(dx, dy) < 4))) return;
    this.pointers.set(event.pointerId, event);
    this.dragged = true;
    if (other) {
      const apart = (one) => Math.max(Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY), 1);
      this.by(apart(event) / apart(before), { clientX: (event.clientX + other.clientX) / 2, clientY: (event.clientY + other.clientY) / 2 });
    } else {
      this.x += dx;
      this.y += dy;
      this.apply();
    }
  }
}
