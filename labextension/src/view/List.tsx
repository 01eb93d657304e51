/** The list: a tree grid of which only the rows near the visible part are in the document. */
import * as React from 'react';
import { useSurroundings } from './context';
import { Details, type IOpened } from './Details';
import { useHeight, useLatest } from './hooks';
import { Layout } from './layout';
import { indexOf, PAGE_SIZE, rowOf, type IListing } from './listing';
import { GroupHeader, Placeholder, Row } from './Row';
import { TableHead } from './TableHead';
import type { IViewState, SortKey } from './types';
import { useListKeys } from './useListKeys';
import { itemOf, keyOf, useSteady } from './useSteady';
import { useWindow } from './useWindow';

const USUAL_DETAILS_PX = 240;
/** The number of visible rows of which one must stay known when the list changes. */
const FOLLOWED = 3;

export interface IListProps {
  listing: IListing;
  state: IViewState;
  fontSize: number;
  selected: string | null;
  opened: IOpened;
  onSelect(name: string | null): void;
  onCollapse(id: string): void;
  onSort(key: SortKey): void;
  onFilterKey(): void;
  /** Called with the visible pages, and with lists of names: of each list, one name must stay known. */
  onLook(pages: number[], kept: string[][]): void;
}

/** Heights in pixels. The style sheet uses these too. */
function sizesFor(fontSize: number, wide: boolean) {
  return {
    row: Math.round(fontSize * (wide ? 2.3 : 3.4)),
    header: Math.round(fontSize * 2.1)
  };
}

function pagesOf(layout: Layout, first: number, last: number): number[] {
  const pages = new Set<number>();
  for (let index = first; index <= last; index++) {
    const item = layout.item(index);
    if (item.type === 'row') {
      pages.add(Math.floor(item.row / PAGE_SIZE));
    }
  }
  return [...pages];
}

/** Names of the first visible rows; none at the very top, so that new rows become visible there. */
function namesFrom(listing: IListing, layout: Layout, scrollTop: number): string[] {
  const names: string[] = [];
  const begin = layout.at(scrollTop);
  for (let index = begin; scrollTop && index < begin + FOLLOWED && index < layout.count; index++) {
    const item = layout.item(index);
    const row = item.type === 'row' ? rowOf(listing, item.row) : undefined;
    if (row) {
      names.push(row.name);
    }
  }
  return names;
}

export function List(props: IListProps): React.JSX.Element {
  const { listing, state, selected, opened, onSelect, onCollapse } = props;
  const { trans, wide, actions, releasing } = useSurroundings();
  const scroller = React.useRef<HTMLDivElement>(null);
  const [detailsHeight, detailsRef] = useHeight(USUAL_DETAILS_PX);
  const sizes = sizesFor(props.fontSize, wide);
  const { groups, total } = listing;
  const openRow = selected === null ? -1 : indexOf(listing, selected);
  const layout = React.useMemo(
    () =>
      new Layout(
        groups,
        total,
        new Set(state.collapsed),
        { row: sizes.row, header: sizes.header },
        openRow >= 0 ? { row: openRow, height: detailsHeight } : null
      ),
    [groups, total, state.collapsed, sizes.row, sizes.header, openRow, detailsHeight]
  );
  const scene = { listing, layout };
  const { first, last, look } = useWindow(scroller, layout);
  // The item that the Tab key reaches is known by its name. If it is gone, the item at its place is used.
  const [active, setActive] = React.useState<string | null>(null);
  const place = React.useRef(0);
  const found = active === null ? 0 : itemOf(scene, active);
  const current = found >= 0 ? found : Math.min(place.current, layout.count - 1);
  place.current = current;
  const grouped = groups.length > 0;
  const head = wide ? 1 : 0;

  const pages = pagesOf(layout, first, last);
  const kept = [
    namesFrom(listing, layout, scroller.current?.scrollTop ?? 0),
    active?.[0] === 'r' ? [active.slice(1)] : [],
    selected === null ? [] : [selected]
  ];
  const report = useLatest(() => props.onLook(pages, kept));
  React.useEffect(report, [report, JSON.stringify([pages, kept]), listing]);

  const scrollTo = useLatest((index: number) => {
    const element = scroller.current;
    if (!element || index < 0) {
      return;
    }
    const top = layout.top(index);
    const bottom = layout.bottom(index) + head * sizes.header;
    const end = element.scrollTop + element.clientHeight;
    if (top < element.scrollTop || bottom - top > element.clientHeight) {
      element.scrollTop = top;
    } else if (bottom > end) {
      element.scrollTop = bottom - element.clientHeight;
    }
  });

  const openItem = openRow >= 0 ? layout.itemOfRow(openRow) : -1;
  const complete = Boolean(opened.details && opened.preview);
  const steady = { ...scene, selected, openItem, complete, detailsHeight, active: found };
  useSteady(scroller, steady, scrollTo, look);
  React.useEffect(() => setActive(null), [listing.question]);

  const toggle = useLatest((name: string) => onSelect(name === selected ? null : name));
  const collapse = useLatest((id: string) => {
    onCollapse(id);
    setActive(`g${id}`);
  });

  const onKeyDown = useListKeys({
    layout,
    current,
    page: Math.max(1, Math.floor((scroller.current?.clientHeight ?? 0) / sizes.row) - 1),
    isOpen: item =>
      item.type === 'row' ? item.row === openRow : !state.collapsed.includes(groups[item.group].id),
    toggle: item => {
      if (item.type === 'group') {
        collapse(groups[item.group].id);
      } else {
        const row = rowOf(listing, item.row);
        if (row) {
          toggle(row.name);
        }
      }
    },
    go: index => {
      setActive(keyOf(scene, index));
      scrollTo(index);
      focusItem(scroller.current, index);
    },
    close: () => {
      if (openItem >= 0) {
        setActive(keyOf(scene, openItem));
        focusItem(scroller.current, openItem);
      }
      onSelect(null);
    },
    release: item => {
      const row = item.type === 'row' ? rowOf(listing, item.row) : undefined;
      if (row?.state === 'current' && !releasing.has(row.name)) {
        actions.release(row);
      }
    },
    filter: props.onFilterKey
  });

  const drawn = new Set<number>([current, openItem].filter(i => i >= 0 && i < layout.count));
  for (let index = first; index <= last; index++) {
    drawn.add(index);
  }
  const openedRow = openItem >= 0 ? rowOf(listing, openRow) : undefined;
  const draw = (index: number): React.JSX.Element => {
    const item = layout.item(index);
    const key = keyOf(scene, index);
    const place = {
      id: key,
      index,
      // The header and the details count as rows.
      rowIndex: index + 1 + head + (openedRow && index > openItem ? 1 : 0),
      top: layout.top(index),
      active: index === current,
      onActive: setActive
    };
    if (item.type === 'group') {
      const group = groups[item.group];
      return (
        <GroupHeader
          key={key}
          {...place}
          group={group}
          collapsed={state.collapsed.includes(group.id)}
          onCollapse={collapse}
        />
      );
    }
    const row = rowOf(listing, item.row);
    return row ? (
      <Row
        key={key}
        {...place}
        row={row}
        level={grouped ? 2 : 1}
        selected={row.name === selected}
        onToggle={toggle}
      />
    ) : (
      <Placeholder key={key} {...place} />
    );
  };
  const items: React.JSX.Element[] = [];
  for (const index of [...drawn].sort((a, b) => a - b)) {
    items.push(draw(index));
    if (openedRow && index === openItem) {
      items.push(
        <div
          key="details"
          ref={detailsRef}
          role="row"
          aria-level={grouped ? 3 : 2}
          aria-rowindex={index + 2 + head}
          className="jshm-item jshm-opened"
          style={{ top: layout.top(index) + sizes.row }}
        >
          <div role="gridcell" aria-label={trans.__('Details of %1', openedRow.name)}>
            <Details row={openedRow} opened={opened} />
          </div>
        </div>
      );
    }
  }

  return (
    <div
      ref={scroller}
      className="jshm-list"
      role="treegrid"
      aria-label={trans.__('Shared names')}
      aria-rowcount={layout.count + head + (openedRow ? 1 : 0)}
      tabIndex={-1}
      onKeyDown={onKeyDown}
      style={
        {
          '--jshm-row': `${sizes.row}px`,
          '--jshm-header': `${sizes.header}px`
        } as React.CSSProperties
      }
    >
      {wide && <TableHead state={state} onSort={props.onSort} />}
      <div className="jshm-sheet" role="rowgroup" style={{ height: layout.height }}>
        {items}
      </div>
    </div>
  );
}

/** Focus an item after the next frame, because it may not be drawn before. */
function focusItem(list: HTMLElement | null, index: number): void {
  requestAnimationFrame(() => {
    list?.querySelector<HTMLElement>(`[data-item="${index}"]`)?.focus({ preventScroll: true });
  });
}
