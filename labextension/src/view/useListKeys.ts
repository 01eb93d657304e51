import type * as React from 'react';
import { useLatest } from './hooks';
import type { Item, Layout } from './layout';

export interface IListKeys {
  layout: Layout;
  current: number;
  /** The number of items that PageUp and PageDown skip. */
  page: number;
  isOpen(item: Item): boolean;
  toggle(item: Item): void;
  go(index: number): void;
  close(): void;
  release(item: Item): void;
  filter(): void;
}

/** The keys of a tree grid, as in the ARIA patterns. */
export function useListKeys(keys: IListKeys): (event: React.KeyboardEvent) => void {
  return useLatest((event: React.KeyboardEvent) => {
    const { layout, current } = keys;
    if (event.key === 'Escape') {
      keys.close();
      event.stopPropagation();
      return;
    }
    const onItem = (event.target as Element).hasAttribute('data-item');
    // The list has the focus after the focused row is gone. Then a key only focuses another row.
    const onList = event.target === event.currentTarget;
    if (!(onItem || onList) || !layout.count || event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    const item = layout.item(current);
    const last = layout.count - 1;
    const go = (index: number) => keys.go(Math.max(0, Math.min(last, index)));
    const commands: Record<string, () => void> = {
      ArrowDown: () => go(current + 1),
      ArrowUp: () => go(current - 1),
      PageDown: () => go(current + keys.page),
      PageUp: () => go(current - keys.page),
      Home: () => go(0),
      End: () => go(last),
      Enter: () => keys.toggle(item),
      ' ': () => keys.toggle(item),
      ArrowRight: () => (keys.isOpen(item) ? go(current + 1) : keys.toggle(item)),
      ArrowLeft: () => {
        const header = layout.headerOf(current);
        if (keys.isOpen(item)) {
          keys.toggle(item);
        } else if (item.type === 'row' && header >= 0) {
          go(header);
        }
      },
      Delete: () => keys.release(item),
      '/': () => keys.filter()
    };
    const command = commands[event.key];
    if (command) {
      event.preventDefault();
      event.stopPropagation();
      if (onItem) {
        command();
      } else {
        go(current);
      }
    }
  });
}
