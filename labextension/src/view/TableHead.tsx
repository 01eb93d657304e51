import * as React from 'react';
import { Button } from './icons';
import { useSurroundings } from './context';
import type { ITranslate, IViewState, SortKey } from './types';

function columns(trans: ITranslate): [string, string, SortKey | null][] {
  return [
    ['name', trans.__('Name'), 'name'],
    ['type', trans.__('Type'), 'type'],
    ['size', trans.__('Size'), 'size'],
    ['from', trans.__('From'), null],
    ['used', trans.__('Used by'), 'holders'],
    ['buttons', '', null]
  ];
}

/** The header row of the table. A click sorts the list. */
export function TableHead(props: {
  state: IViewState;
  onSort(key: SortKey): void;
}): React.JSX.Element {
  const { sort, descending } = props.state;
  const { trans } = useSurroundings();
  return (
    <div className="jshm-head" role="row" aria-rowindex={1}>
      {columns(trans).map(([id, label, key]) => (
        <span
          key={id}
          className={`jshm-cell-${id}`}
          role="columnheader"
          aria-label={label || trans.__('Actions')}
          aria-sort={key === sort ? (descending ? 'descending' : 'ascending') : undefined}
        >
          {key ? (
            <Button className="jshm-sort" onClick={() => props.onSort(key)}>
              {label}
              {key === sort && <span aria-hidden="true">{descending ? ' ▾' : ' ▴'}</span>}
            </Button>
          ) : (
            label
          )}
        </span>
      ))}
    </div>
  );
}
