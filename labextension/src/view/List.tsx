/** The list: a tree of rows of which only those near the screen are in the document. */
import * as React from 'react';
import { useSurroundings } from './context';
import { Details, type IOpened } from './Details';
import { useHeight, useLatest } from './hooks';
import { Layout } from './layout';
import { indexOf, PAGE_SIZE, rowOf, type IListing } from './listing';
import { GroupHeader, Placeholder, Row } from './Row';
import { TableHead } from './TableHead';
import type { IRow, IViewState, SortKey } from './types';
import { useListKeys } from './useListKeys';
import { useWindow } from './useWindow';

const USUAL_DETAILS_PX = 240;

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
  /** Called with the pages that are on screen. */
  onPages(pages: number[]): void;
}

/** Heights in pixels; the style sheet takes them from here. */
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

export function List(props: IListProps): React.JSX.Element {
  const { listing, state, selected, onSelect, onCollapse, onPages } = props;
  const { trans, wide, actions } = useSurroundings();
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
  const { first, last } = useWindow(scroller, layout);
  const [active, setActive] = React.useState(0);
  const current = Math.max(0, Math.min(active, layout.count - 1));
  const grouped = groups.length > 0;

  const pages = pagesOf(layout, first, last);
  const pagesKey = pages.join();
  const report = useLatest(() => onPages(pages));
  React.useEffect(report, [report, pagesKey, listing]);

  const scrollTo = useLatest((index: number) => {
    const element = scroller.current;
    if (!element || index < 0) {
      return;
    }
    const head = wide ? sizes.header : 0;
    const top = layout.top(index);
    const bottom = layout.bottom(index) + head;
    const end = element.scrollTop + element.clientHeight;
    if (top < element.scrollTop || bottom - top > element.clientHeight) {
      element.scrollTop = top;
    } else if (bottom > end) {
      element.scrollTop = bottom - element.clientHeight;
    }
  });

  const openItem = openRow >= 0 ? layout.itemOfRow(openRow) : -1;
  const isOpen = openItem >= 0;
  const showOpen = useLatest(() => scrollTo(openItem));
  React.useEffect(() => {
    if (isOpen) {
      showOpen();
    }
  }, [showOpen, isOpen, selected, detailsHeight]);

  const { question } = listing;
  const begin = useLatest(() => {
    // Another list begins at its top, unless the open row is elsewhere.
    setActive(0);
    if (scroller.current && !isOpen) {
      scroller.current.scrollTop = 0;
    }
  });
  React.useEffect(begin, [begin, question]);

  const toggle = useLatest((name: string) => onSelect(name === selected ? null : name));
  const collapse = useLatest((id: string) => {
    const header = layout.headerOf(current);
    onCollapse(id);
    setActive(Math.max(0, header));
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
      setActive(index);
      scrollTo(index);
      focusItem(scroller.current, index);
    },
    close: () => {
      if (openItem >= 0) {
        setActive(openItem);
        focusItem(scroller.current, openItem);
      }
      onSelect(null);
    },
    release: item => {
      const row = item.type === 'row' ? rowOf(listing, item.row) : undefined;
      if (row?.state === 'current') {
        actions.release(row);
      }
    },
    filter: props.onFilterKey
  });

  const drawn = new Set<number>([current, openItem].filter(i => i >= 0 && i < layout.count));
  for (let index = first; index <= last; index++) {
    drawn.add(index);
  }
  const draw = (index: number): React.JSX.Element => {
    const item = layout.item(index);
    const place = {
      index,
      top: layout.top(index),
      active: index === current,
      onActive: setActive
    };
    if (item.type === 'group') {
      const group = groups[item.group];
      return (
        <GroupHeader
          key={`g${item.group}`}
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
        key={`r${item.row}`}
        {...place}
        row={row}
        level={grouped ? 2 : 1}
        selected={row.name === selected}
        onToggle={toggle}
      />
    ) : (
      <Placeholder key={`r${item.row}`} {...place} />
    );
  };
  const openedRow: IRow | undefined = openRow >= 0 ? rowOf(listing, openRow) : undefined;

  return (
    <div
      ref={scroller}
      className="jshm-list"
      role="treegrid"
      aria-label={trans.__('Shared names')}
      aria-rowcount={layout.count}
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
        {[...drawn].sort((a, b) => a - b).map(draw)}
        {openedRow && openItem >= 0 && (
          <div
            ref={detailsRef}
            role="row"
            className="jshm-item jshm-opened"
            style={{ top: layout.top(openItem) + sizes.row }}
          >
            <div role="gridcell">
              <Details row={openedRow} opened={props.opened} />
            </div>
          </div>
        )}
      </div>
    </div>
  );
}

/** Focus an item, which may be drawn only after the next frame. */
function focusItem(list: HTMLElement | null, index: number): void {
  requestAnimationFrame(() => {
    list?.querySelector<HTMLElement>(`[data-item="${index}"]`)?.focus({ preventScroll: true });
  });
}
