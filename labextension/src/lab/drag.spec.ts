import { describe, expect, it, vi } from 'vitest';
import { dragData, onceMoved } from './drag';

// Lumino looks for it when it is imported; jsdom has none.
vi.hoisted(() => {
  globalThis.DragEvent ??= class extends MouseEvent {} as typeof DragEvent;
});

describe('the data of a dragged row', () => {
  const code = 'import jshm\nX = jshm.attach("X")';
  const data = dragData(code);

  it('is a code cell for notebooks', () => {
    expect(data.getData('application/vnd.jupyter.cells')).toEqual([
      { cell_type: 'code', source: code, metadata: {}, outputs: [], execution_count: null }
    ]);
  });

  it('is text for editors', () => {
    expect(data.getData('text/plain')).toBe(code);
  });
});

describe('a drag', () => {
  const fire = (type: string, clientX: number) =>
    document.dispatchEvent(new MouseEvent(type, { clientX, clientY: 100 }));

  it('starts once, after the mouse has moved a little', () => {
    const moved = vi.fn();
    onceMoved(new MouseEvent('mousedown', { clientX: 100, clientY: 100 }), moved);
    fire('pointermove', 103);
    expect(moved).not.toHaveBeenCalled();
    fire('pointermove', 105);
    fire('pointermove', 120);
    expect(moved).toHaveBeenCalledTimes(1);
  });

  it('does not start after a click', () => {
    const moved = vi.fn();
    onceMoved(new MouseEvent('mousedown', { clientX: 100, clientY: 100 }), moved);
    fire('pointerup', 101);
    fire('pointermove', 200);
    expect(moved).not.toHaveBeenCalled();
  });
});
