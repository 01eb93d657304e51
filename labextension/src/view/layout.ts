/** Where headers and rows of a list are, without looking at each of them. */
import type { IGroup } from './types';

export type Item = { type: 'group'; group: number } | { type: 'row'; row: number };

export interface ISizes {
  row: number;
  header: number;
}

/** The row under which the details are. */
export interface IOpen {
  row: number;
  height: number;
}

interface ISection {
  /** -1 for rows that are in no group. */
  group: number;
  header: 0 | 1;
  firstRow: number;
  /** How many rows there are, and how many of them are shown. */
  rows: number;
  shown: number;
  firstItem: number;
  top: number;
}

/**
 * Items are group headers and rows that are not in a collapsed group, numbered from the top.
 * All rows are equally high, so that a position needs a search among the groups only.
 */
export class Layout {
  constructor(
    groups: readonly IGroup[],
    total: number,
    collapsed: ReadonlySet<string>,
    private readonly sizes: ISizes,
    open: IOpen | null = null
  ) {
    let row = 0;
    groups.forEach((group, index) => {
      const rows = Math.max(0, Math.min(group.count, total - row));
      this.append(index, 1, row, rows, collapsed.has(group.id) ? 0 : rows);
      row += rows;
    });
    if (row < total) {
      this.append(-1, 0, row, total - row, total - row);
    }
    const item = open ? this.itemOfRow(open.row) : -1;
    this.open = open && item >= 0 ? { item, height: open.height } : null;
  }

  /** How many items there are. */
  get count(): number {
    const last = this.sections[this.sections.length - 1];
    return last ? last.firstItem + last.header + last.shown : 0;
  }

  get height(): number {
    return this.count ? this.bottom(this.count - 1) : 0;
  }

  item(index: number): Item {
    const section = this.sectionOf(index);
    const within = index - section.firstItem - section.header;
    return within < 0
      ? { type: 'group', group: section.group }
      : { type: 'row', row: section.firstRow + within };
  }

  top(index: number): number {
    const top = this.plainTop(index);
    return this.open && index > this.open.item ? top + this.open.height : top;
  }

  /** Where an item ends, with the details that are open under it. */
  bottom(index: number): number {
    const bottom = this.top(index) + this.heightOf(index);
    return this.open?.item === index ? bottom + this.open.height : bottom;
  }

  heightOf(index: number): number {
    return this.item(index).type === 'group' ? this.sizes.header : this.sizes.row;
  }

  /** The item at a distance from the top; the nearest, where there is none. */
  at(y: number): number {
    let plain = y;
    if (this.open) {
      const end = this.plainTop(this.open.item) + this.sizes.row;
      if (y >= end) {
        plain = Math.max(end - 1, y - this.open.height);
      }
    }
    const section = this.sections[this.search(s => s.top <= plain)];
    if (!section) {
      return 0;
    }
    const below = plain - section.top - section.header * this.sizes.header;
    const within = below < 0 ? -section.header : Math.floor(below / this.sizes.row);
    const last = section.firstItem + section.header + section.shown - 1;
    return Math.max(0, Math.min(last, section.firstItem + section.header + within));
  }

  /** The item of a row; -1 if it is in a collapsed group, or is not there. */
  itemOfRow(row: number): number {
    const section = this.sections[this.search(s => s.firstRow <= row)];
    const within = section ? row - section.firstRow : -1;
    return section && within >= 0 && within < section.shown
      ? section.firstItem + section.header + within
      : -1;
  }

  /** The item of the header of the group that an item belongs to; -1 if it has none. */
  headerOf(index: number): number {
    const section = this.sectionOf(index);
    return section.header ? section.firstItem : -1;
  }

  private append(group: number, header: 0 | 1, firstRow: number, rows: number, shown: number) {
    const last = this.sections[this.sections.length - 1];
    const firstItem = last ? last.firstItem + last.header + last.shown : 0;
    const top = last ? last.top + last.header * this.sizes.header + last.shown * this.sizes.row : 0;
    this.sections.push({ group, header, firstRow, rows, shown, firstItem, top });
  }

  private plainTop(index: number): number {
    const section = this.sectionOf(index);
    const within = index - section.firstItem - section.header;
    return within < 0
      ? section.top
      : section.top + section.header * this.sizes.header + within * this.sizes.row;
  }

  private sectionOf(index: number): ISection {
    const section = this.sections[this.search(s => s.firstItem <= index)];
    if (!section) {
      throw new RangeError(`there is no item ${index}`);
    }
    return section;
  }

  /** The last section for which something holds that holds for all before it. */
  private search(holds: (section: ISection) => boolean): number {
    let low = 0;
    let high = this.sections.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (holds(this.sections[middle])) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low - 1;
  }

  private readonly sections: ISection[] = [];
  private readonly open: { item: number; height: number } | null;
}
