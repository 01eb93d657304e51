import * as React from 'react';
import { Capacity, Idle } from './Capacity';
import { useSurroundings } from './context';
import { Icon, IconButton } from './icons';
import { Menu } from './Menu';
import type { INotice, ISummary, IViewState } from './types';

export interface IHeaderProps {
  summary: ISummary | null;
  state: IViewState;
  onState(state: IViewState): void;
  filter: string;
  onFilter(text: string): void;
  filterRef: React.RefObject<HTMLInputElement>;
  onRefresh(): void;
  onReview(): void;
}

function Notices({ notices }: { notices: readonly INotice[] }): React.JSX.Element {
  return (
    <>
      {notices.map(({ level, text }) => (
        <p key={text} className={`jshm-notice jshm-${level}`} role="note">
          <Icon name={level === 'info' ? 'info' : 'warning'} />
          <span>{text}</span>
        </p>
      ))}
    </>
  );
}

function focusList(inside: Element): void {
  const list = inside.closest('.jshm-browser');
  list?.querySelector<HTMLElement>('[data-item][tabindex="0"]')?.focus();
}

/** The part above the list. */
export function Header(props: IHeaderProps): React.JSX.Element {
  const { summary, filter, onFilter } = props;
  const { trans } = useSurroundings();
  return (
    <header className="jshm-header">
      <div className="jshm-title">
        <h2>{trans.__('Shared memory')}</h2>
        <IconButton icon="refresh" label={trans.__('Refresh')} onClick={props.onRefresh} />
        <Menu state={props.state} onState={props.onState} />
      </div>
      {summary && <Capacity summary={summary} />}
      {summary && (
        <div className="jshm-filter">
          <input
            ref={props.filterRef}
            className="jshm-input"
            type="search"
            value={filter}
            placeholder={trans.__('Filter names, notebooks, types')}
            aria-label={trans.__('Filter')}
            spellCheck={false}
            onChange={event => onFilter(event.currentTarget.value)}
            onKeyDown={event => {
              if (event.key === 'ArrowDown') {
                event.preventDefault();
                focusList(event.currentTarget);
              } else if (event.key === 'Escape' && filter) {
                event.stopPropagation();
                onFilter('');
              }
            }}
          />
        </div>
      )}
      {summary && <Idle summary={summary} onReview={props.onReview} />}
      {summary && <Notices notices={summary.notices} />}
    </header>
  );
}
