/** The positions of headers and rows of a list, computed without a loop over all rows. */
import type { IGroup } from './types';

export type Item = { type: 'group'; group: number } | { type: 'row'; row: number };

export interface ISizes {
  row: number;
  header: number;
}

/** The open row, and the height of the details below it. */
export interface IOpen {
  row: number;
  height: number;
}

interface ISection {
  /** -1 for rows without a group. */
  group: number;
  header: 0 | 1;
  firstRow: number;
  /** The number of rows, and of those that are shown. */
  rows: number;
  shown: number;
  firstItem: number;
  top: number;
}

/**
 * The items are group headers and the rows of groups that are not collapsed, numbered from the top.
 * All rows have the same height, so a position needs a search among the groups only. Virtual list libraries keep an
 * entry for each row instead.
 */
export class Layout {
  constructor(
    groups: readonly IGroup[],
    total: number,
    collapsed: ReadonlySet<string>,
    private readonly _sizes: ISizes,
    open: IOpen | null = null
  ) {
    let row = 0;
    groups.forEach((group, index) => {
      const rows = Math.max(0, Math.min(group.count, total - row));
      this._append(index, 1, row, rows, collapsed.has(group.id) ? 0 : rows);
      row += rows;
    });
    if (row < total) {
      this._append(-1, 0, row, total - row, total - row);
    }
    const item = open ? this.itemOfRow(open.row) : -1;
    this._open = open && item >= 0 ? { item, height: open.height } : null;
  }

  /** The number of items. */
  get count(): number {
    const last = this._sections[this._sections.length - 1];
    return last ? last.firstItem + last.header + last.shown : 0;
  }

  get height(): number {
    return this.count ? this.bottom(this.count - 1) : 0;
  }

  item(index: number): Item {
    const section = this._sectionOf(index);
    const within = index - section.firstItem - section.header;
    return within < 0
      ? { type: 'group', group: section.group }
      : { type: 'row', row: section.firstRow + within };
  }

  top(index: number): number {
    const top = this._plainTop(index);
    return this._open && index > this._open.item ? top + this._open.height : top;
  }

  /** The bottom of an item, including open details below it. */
  bottom(index: number): number {
    const bottom = this.top(index) + this.heightOf(index);
    return this._open?.item === index ? bottom + this._open.height : bottom;
  }

  heightOf(index: number): number {
    return this.item(index).type === 'group' ? this._sizes.header : this._sizes.row;
  }

  /** The item at a distance from the top, or the nearest item. */
  at(y: number): number {
    let plain = y;
    if (this._open) {
      const end = this._plainTop(this._open.item) + this._sizes.row;
      if (y >= end) {
        plain = Math.max(end - 1, y - this._open.height);
      }
    }
    const section = this._sections[this._search(s => s.top <= plain)];
    if (!section) {
      return 0;
    }
    const below = plain - section.top - section.header * this._sizes.header;
    const within = below < 0 ? -section.header : Math.floor(below / this._sizes.row);
    const last = section.firstItem + section.header + section.shown - 1;
    return Math.max(0, Math.min(last, section.firstItem + section.header + within));
  }

  /** The item of a row; -1 if it is in a collapsed group or does not exist. */
  itemOfRow(row: number): number {
    const section = this._sections[this._search(s => s.firstRow <= row)];
    const within = section ? row - section.firstRow : -1;
    return section && within >= 0 && within < section.shown
      ? section.firstItem + section.header + within
      : -1;
  }

  /** The item of a group's header. */
  itemOfGroup(group: number): number {
    return this._sections[group]?.firstItem ?? -1;
  }

  /** The header item of an item's group; -1 without a group. */
  headerOf(index: number): number {
    const section = this._sectionOf(index);
    return section.header ? section.firstItem : -1;
  }

  private _append(group: number, header: 0 | 1, firstRow: number, rows: number, shown: number) {
    const last = this._sections[this._sections.length - 1];
    const firstItem = last ? last.firstItem + last.header + last.shown : 0;
    const top = last
      ? last.top + last.header * this._sizes.header + last.shown * this._sizes.row
      : 0;
    this._sections.push({ group, header, firstRow, rows, shown, firstItem, top });
  }

  private _plainTop(index: number): number {
    const section = this._sectionOf(index);
    const within = index - section.firstItem - section.header;
    return within < 0
      ? section.top
      : section.top + section.header * this._sizes.header + within * this._sizes.row;
  }

  private _sectionOf(index: number): ISection {
    const section = this._sections[this._search(s => s.firstItem <= index)];
    if (!section) {
      throw new RangeError(`there is no item ${index}`);
    }
    return section;
  }

  /** The last section for which `holds` is true; it is true for all sections before. */
  private _search(holds: (section: ISection) => boolean): number {
    let low = 0;
    let high = this._sections.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (holds(this._sections[middle])) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low - 1;
  }

  private readonly _sections: ISection[] = [];
  private readonly _open: { item: number; height: number } | null;
}
