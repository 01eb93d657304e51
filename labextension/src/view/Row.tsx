import * as React from 'react';
import { variableFor } from './code';
import { useSurroundings } from './context';
import { Icon, IconButton } from './icons';
import { Name } from './Name';
import { sizeText } from './text';
import type { IGroup, IRow } from './types';
import { ProcessName } from './ProcessName';
import { holdersOf, kindIcon, labelsOf, marksOf, typeText, type IMark } from './words';

/** The properties of rows and headers as items of the list. */
export interface IItemProps {
  /** Identifies the item, wherever it is in the list. */
  id: string;
  /** Index among all items, from 0; and among all rows of the table, from 1. */
  index: number;
  rowIndex: number;
  top: number;
  /** Whether the Tab key reaches it. */
  active: boolean;
  onActive(id: string): void;
}

function itemAttributes({ id, index, rowIndex, top, active, onActive }: IItemProps) {
  return {
    role: 'row',
    'data-item': index,
    'aria-rowindex': rowIndex,
    style: { top },
    tabIndex: active ? 0 : -1,
    onFocus: () => onActive(id)
  };
}

export function Marks({ marks }: { marks: readonly IMark[] }): React.JSX.Element {
  return (
    <>
      {marks.map(mark => (
        <span
          key={mark.text}
          className={mark.strong ? 'jshm-mark jshm-strong' : 'jshm-mark'}
          title={mark.title}
        >
          {mark.text}
        </span>
      ))}
    </>
  );
}

function Holders({ row }: { row: IRow }): React.JSX.Element {
  const { trans, wide } = useSurroundings();
  const all = holdersOf(row);
  if (!all.length) {
    return <span className="jshm-weak">{wide ? '–' : ''}</span>;
  }
  const labels = labelsOf(all, trans);
  const title = trans._n('%1 holder: %2', '%1 holders: %2', labels.length, labels.join(', '));
  return (
    <span className="jshm-holders" title={title} role="img" aria-label={title}>
      {wide && (
        <span className="jshm-ellipsis">
          <bdi>{labels.join(', ')}</bdi>
        </span>
      )}
      {(!wide || labels.length > 1) && <span>{labels.length}</span>}
      <span className={row.older.length ? 'jshm-dot jshm-old' : 'jshm-dot'} />
    </span>
  );
}

/** The buttons of a row. The Tab key reaches them from the row. */
function RowButtons({ row, active }: { row: IRow; active: boolean }): React.JSX.Element | null {
  const { trans, host, actions, target, wide, releasing } = useSurroundings();
  if (row.state === 'released' || releasing.has(row.name)) {
    return null;
  }
  const tabIndex = active ? 0 : -1;
  const variable = variableFor(row.name);
  return (
    <>
      {host.attach && (
        <IconButton
          icon="insert"
          tabIndex={tabIndex}
          label={trans.__('Attach %1 as %2', row.name, variable)}
          onClick={() => actions.attach(row, variable, 'r')}
        />
      )}
      {host.insert && (
        <IconButton
          icon="insert"
          tabIndex={tabIndex}
          disabled={target === null}
          label={
            target === null
              ? trans.__('Open a notebook to attach %1 in it', row.name)
              : trans.__('Attach %1 in %2', row.name, target)
          }
          onClick={() => actions.insert(row)}
        />
      )}
      {!wide && (
        <IconButton
          icon="copy"
          tabIndex={tabIndex}
          label={trans.__('Copy the code that attaches %1', row.name)}
          onClick={() => actions.copy(row)}
        />
      )}
      <IconButton
        icon="release"
        tabIndex={tabIndex}
        label={trans.__('Release %1', row.name)}
        onClick={() => actions.release(row)}
      />
    </>
  );
}

export interface IRowProps extends IItemProps {
  row: IRow;
  level: number;
  selected: boolean;
  onToggle(name: string): void;
}

/** One name: two lines, or the cells of a table. */
export const Row = React.memo(function Row(props: IRowProps): React.JSX.Element {
  const { row, selected, level, onToggle } = props;
  const { host, wide, trans, releasing } = useSurroundings();
  const isReleasing = releasing.has(row.name);
  const marks = marksOf(row, trans, isReleasing);
  const live = marks.filter(mark => mark.live);
  const others = <Marks marks={marks.filter(mark => !mark.live)} />;
  return (
    <div
      {...itemAttributes(props)}
      className={`jshm-item jshm-row${selected ? ' jshm-selected' : ''}${isReleasing ? ' jshm-releasing' : ''}`}
      aria-level={level}
      aria-selected={selected}
      aria-expanded={selected}
      onClick={event => {
        if (!(event.target as Element).closest('button')) {
          onToggle(row.name);
        }
      }}
      onMouseDown={
        host.drag && !isReleasing
          ? event => {
              if (event.button === 0 && !(event.target as Element).closest('button')) {
                host.drag?.(row, event.nativeEvent);
              }
            }
          : undefined
      }
    >
      <span className="jshm-cell-name" role="gridcell">
        <Icon name={kindIcon(row)} />
        <Name text={row.name} />
        {wide && <span className="jshm-weak">v{row.version}</span>}
        <Marks marks={live} />
      </span>
      <span className="jshm-cell-type" role="gridcell">
        <span className="jshm-ellipsis" title={row.summary}>
          <bdi>{typeText(row)}</bdi>
          {!wide && level === 1 && ` · ${row.publisher.label}`}
        </span>
        {!wide && <span className="jshm-version">· v{row.version}</span>}
        {wide && others}
      </span>
      <span className="jshm-cell-size" role="gridcell">
        {sizeText(row.nbytes)}
      </span>
      {wide && (
        <span className="jshm-cell-from" role="gridcell">
          <span className="jshm-ellipsis" title={row.publisher.label}>
            <ProcessName process={row.publisher} tabIndex={props.active ? 0 : -1} />
          </span>
        </span>
      )}
      <span className="jshm-cell-used" role="gridcell">
        {!wide && others}
        <Holders row={row} />
      </span>
      <span className="jshm-cell-buttons" role="gridcell">
        <RowButtons row={row} active={props.active} />
      </span>
    </div>
  );
});

export interface IGroupHeaderProps extends IItemProps {
  group: IGroup;
  collapsed: boolean;
  onCollapse(id: string): void;
}

/** The notebook that published the rows below. */
export const GroupHeader = React.memo(function GroupHeader(
  props: IGroupHeaderProps
): React.JSX.Element {
  const { group, collapsed, onCollapse } = props;
  const { trans, host, actions } = useSurroundings();
  const { publisher } = group;
  return (
    <div
      {...itemAttributes(props)}
      className="jshm-item jshm-group"
      aria-level={1}
      aria-expanded={!collapsed}
      onClick={event => {
        if (!(event.target as Element).closest('button')) {
          onCollapse(group.id);
        }
      }}
    >
      <span className="jshm-cell-group" role="gridcell">
        <Icon name={collapsed ? 'right' : 'down'} />
        <Name text={publisher.here ? trans.__('this notebook') : publisher.label} />
        {!publisher.alive && <span className="jshm-weak">{trans.__('(stopped)')}</span>}
        {host.open && publisher.path && (
          <IconButton
            icon="open"
            tabIndex={props.active ? 0 : -1}
            label={trans.__('Open %1', publisher.path)}
            onClick={() => actions.open(publisher.path)}
          />
        )}
      </span>
      <span className="jshm-cell-count" role="gridcell">
        {trans._n('%1 name', '%1 names', group.count)}
      </span>
      <span className="jshm-cell-size" role="gridcell">
        {sizeText(group.nbytes)}
      </span>
    </div>
  );
});

/** The place of a row that is not loaded yet. */
export function Placeholder(props: IItemProps): React.JSX.Element {
  return (
    <div {...itemAttributes(props)} className="jshm-item jshm-row jshm-pending" aria-busy="true" />
  );
}
