import { describe, expect, it } from 'vitest';
import { who } from '../testing/fixtures';
import { Layout, type IOpen, type Item } from './layout';
import type { IGroup } from './types';

const SIZES = { row: 44, header: 28 };

function group(id: number, count: number): IGroup {
  return { id: String(id), publisher: who(String(id)), count, nbytes: 0 };
}

/** The same by walking through all of it. */
function walk(groups: IGroup[], total: number, collapsed: Set<string>, open: IOpen | null) {
  const items: { item: Item; top: number; bottom: number }[] = [];
  let y = 0;
  let row = 0;
  const add = (item: Item, height: number, extra: number) => {
    items.push({ item, top: y, bottom: y + height + extra });
    y += height + extra;
  };
  const addRow = (shown: boolean) => {
    if (shown) {
      add({ type: 'row', row }, SIZES.row, open?.row === row ? open.height : 0);
    }
    row++;
  };
  groups.forEach(({ id, count }, index) => {
    add({ type: 'group', group: index }, SIZES.header, 0);
    for (let i = 0; i < count && row < total; i++) {
      addRow(!collapsed.has(id));
    }
  });
  while (row < total) {
    addRow(true);
  }
  return { items, height: y };
}

/** Numbers that look random and are the same each time. */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed;
  return below => {
    state = (state * 1103515245 + 12345) % 2147483648;
    return Math.floor((state / 2147483648) * below);
  };
}

describe('Layout', () => {
  it('is empty without rows', () => {
    const layout = new Layout([], 0, new Set(), SIZES);
    expect([layout.count, layout.height, layout.at(100), layout.itemOfRow(0)]).toEqual([
      0, 0, 0, -1
    ]);
  });

  it('agrees with a loop over all items, for any groups', () => {
    const random = randomNumbers(7);
    for (let round = 0; round < 300; round++) {
      const groups = Array.from({ length: random(6) }, (_, id) => group(id, random(8)));
      const sum = groups.reduce((n, { count }) => n + count, 0);
      const total = Math.max(0, groups.length ? sum + random(5) - 2 : random(12));
      const collapsed = new Set(groups.map(({ id }) => id).filter(() => random(3) === 0));
      const open = total && random(2) ? { row: random(total), height: 1 + random(300) } : null;
      const layout = new Layout(groups, total, collapsed, SIZES, open);
      const { items, height } = walk(groups, total, collapsed, open);

      expect(layout.count).toBe(items.length);
      expect(layout.height).toBe(height);
      items.forEach(({ item, top, bottom }, index) => {
        expect(layout.item(index)).toEqual(item);
        expect(layout.top(index)).toBe(top);
        expect(layout.bottom(index)).toBe(bottom);
        expect(layout.at(top)).toBe(index);
        expect(layout.at(bottom - 1)).toBe(index);
        if (item.type === 'row') {
          expect(layout.itemOfRow(item.row)).toBe(index);
          const header = layout.headerOf(index);
          expect(header < 0 || layout.item(header).type === 'group').toBe(true);
        }
      });
      for (let row = 0; row < total; row++) {
        const index = layout.itemOfRow(row);
        expect(index < 0 || layout.item(index)).toEqual(index < 0 || { type: 'row', row });
      }
      expect(layout.at(height + 1000)).toBe(Math.max(0, items.length - 1));
    }
  });

  it('finds a position among ten thousand rows without a loop', () => {
    const groups = Array.from({ length: 270 }, (_, id) => group(id, 37));
    const layout = new Layout(groups, 9990, new Set(['3']), SIZES);
    const begin = performance.now();
    for (let y = 0; y < 10_000; y++) {
      layout.at(y * 44);
    }
    expect(performance.now() - begin).toBeLessThan(200);
  });
});
