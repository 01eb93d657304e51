import * as React from 'react';
import type { Layout } from './layout';
import { indexOf, rowOf, type IListing } from './listing';

/** The items that are drawn now. */
export interface IScene {
  listing: IListing;
  layout: Layout;
}

/** The key of an item, which stays the same when it moves: its name, or the id of its group. */
export function keyOf({ listing, layout }: IScene, index: number): string {
  const item = layout.item(index);
  if (item.type === 'group') {
    return `g${listing.groups[item.group].id}`;
  }
  const row = rowOf(listing, item.row);
  return row ? `r${row.name}` : `p${item.row}`;
}

/** The item with a key; -1 if it does not exist or is not loaded. */
export function itemOf({ listing, layout }: IScene, key: string): number {
  const rest = key.slice(1);
  return key.startsWith('g')
    ? layout.itemOfGroup(listing.groups.findIndex(group => group.id === rest))
    : layout.itemOfRow(key.startsWith('r') ? indexOf(listing, rest) : Number(rest));
}

/** How far the visible items moved down: as far as the item that moved least. */
function shiftOf(old: IScene, now: IScene, top: number, height: number): number {
  let shift = Infinity;
  for (let index = old.layout.at(top); index <= old.layout.at(top + height); index++) {
    const key = keyOf(old, index);
    const item = key.startsWith('p') ? -1 : itemOf(now, key);
    const moved = item < 0 ? Infinity : now.layout.top(item) - old.layout.top(index);
    if (Math.abs(moved) < Math.abs(shift)) {
      shift = moved;
    }
  }
  return shift === Infinity ? 0 : shift;
}

export interface ISteady extends IScene {
  selected: string | null;
  /** The open item; -1 if its position is not known. */
  openItem: number;
  /** Whether the details below it are loaded, and their height in the layout. */
  complete: boolean;
  detailsHeight: number;
  /** The item that has the focus; -1 if it is gone. */
  active: number;
}

/**
 * Keeps the visible rows and the focus in place when the list changes. An opened row is scrolled into view while its
 * details load, until the user scrolls.
 */
export function useSteady(
  scroller: React.RefObject<HTMLElement>,
  now: ISteady,
  show: (index: number) => void,
  moved: () => void
): void {
  const before = React.useRef<ISteady | null>(null);
  const following = React.useRef(false);
  const left = React.useRef(0);
  // The state before the new items are drawn: drawing them may scroll the list, or remove the focus.
  const scrollTop = scroller.current?.scrollTop ?? 0;
  const focused = scroller.current?.contains(document.activeElement) && document.activeElement;
  React.useLayoutEffect(() => {
    const list = scroller.current;
    const old = before.current;
    before.current = now;
    if (!list) {
      return;
    }
    if (old && old.listing.question !== now.listing.question) {
      list.scrollTop = 0;
    } else if (old && old.layout !== now.layout && scrollTop > 0) {
      list.scrollTop = scrollTop + shiftOf(old, now, scrollTop, list.clientHeight);
    }
    following.current =
      old?.selected !== now.selected
        ? now.selected !== null
        : following.current && scrollTop === left.current;
    if (following.current && now.openItem >= 0) {
      show(now.openItem);
      const details = list.querySelector<HTMLElement>('.jshm-opened');
      following.current = !now.complete || details?.offsetHeight !== now.detailsHeight;
    }
    left.current = list.scrollTop;
    if (left.current !== scrollTop) {
      moved();
    }
    if (focused && document.activeElement === document.body) {
      const item = list.querySelector<HTMLElement>(`[data-item="${now.active}"]`);
      (focused.isConnected ? (focused as HTMLElement) : (item ?? list)).focus({
        preventScroll: true
      });
    }
  });
}
