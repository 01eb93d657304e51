import * as React from 'react';
import { Surroundings, type ISurroundings } from './context';
import { Header } from './Header';
import { useControlled, useDebounced, useLatest, useOnScreen, useSpace } from './hooks';
import { List } from './List';
import { indexOf, PAGE_SIZE, rowOf } from './listing';
import { Messages, useMessages } from './messages';
import { ReleaseDialog } from './ReleaseDialog';
import { ReviewDialog } from './ReviewDialog';
import { Empty, Failed, Loading, NoMatch, Outdated, Waiting } from './States';
import type { BackendError, IBackend, IHost, IRow, ITranslate, IViewState, SortKey } from './types';
import { useActions } from './useActions';
import { useListing } from './useListing';
import { useOpened } from './useOpened';

const FILTER_MS = 150;

export interface ISegmentBrowserProps {
  backend: IBackend;
  host: IHost;
  trans: ITranslate;
  /** Whether to ask before something is released. */
  confirmRelease: boolean;
  state: IViewState;
  onState(state: IViewState): void;
  /** Text of the filter, where somebody else wants to know or set it. */
  filter?: string;
  onFilter?(text: string): void;
  /** The name whose row is open, where somebody else wants to know or set it. */
  selected?: string | null;
  onSelect?(name: string | null): void;
  /** How often to ask anew while it is on screen; 0 for never. */
  pollSeconds: number;
}

/** The notebook that code goes into, as it changes. */
function useTarget(host: IHost): string | null {
  const [target, setTarget] = React.useState(() => host.target?.() ?? null);
  React.useEffect(() => {
    const update = () => setTarget(host.target?.() ?? null);
    update();
    return host.onTarget?.(update);
  }, [host]);
  return target;
}

function useWaiting(backend: IBackend): boolean {
  const [waiting, setWaiting] = React.useState(false);
  React.useEffect(() => backend.onWaiting?.(setWaiting), [backend]);
  return waiting;
}

type Asking = { type: 'release'; row: IRow } | { type: 'review' } | null;

/** What is shared, who holds it and what it costs; and free it. */
export function SegmentBrowser(props: ISegmentBrowserProps): React.JSX.Element {
  const { backend, host, trans, state, onState } = props;
  const root = React.useRef<HTMLDivElement>(null);
  const filterBox = React.useRef<HTMLInputElement>(null);
  const { wide, fontSize } = useSpace(root);
  const onScreen = useOnScreen(root);
  const target = useTarget(host);
  const waiting = useWaiting(backend);
  const messages = useMessages();
  const [asking, setAsking] = React.useState<Asking>(null);
  const [filter, setFilter] = useControlled(props.filter, props.onFilter, '');
  const [selected, select] = useControlled<string | null>(props.selected, props.onSelect, null);

  const settled = useDebounced(filter, FILTER_MS);
  const { sort, descending, grouped } = state;
  const question = React.useMemo(
    () => ({ filter: settled, sort, descending, grouped }),
    [settled, sort, descending, grouped]
  );
  const listing = useListing(backend, question, onScreen, props.pollSeconds);
  const { shown, error } = listing;
  const refresh = useLatest(() => listing.refresh());

  const index = shown && selected !== null ? indexOf(shown, selected) : -1;
  const row = (shown && index >= 0 && rowOf(shown, index)) || null;
  const opened = useOpened(backend, row, (failure: BackendError) => {
    messages.fail(failure);
    if (failure.reason === 'missing') {
      select(null);
      refresh();
    }
  });

  const actions = useActions({
    backend,
    host,
    trans,
    messages,
    refresh,
    ask: props.confirmRelease ? asked => setAsking({ type: 'release', row: asked }) : null
  });
  const surroundings = React.useMemo<ISurroundings>(
    () => ({ trans, host, actions, target, wide }),
    [trans, host, actions, target, wide]
  );

  const collapse = useLatest((id: string) => {
    const { collapsed } = state;
    const rest = collapsed.filter(each => each !== id);
    onState({ ...state, collapsed: rest.length < collapsed.length ? rest : [...collapsed, id] });
  });
  const sortBy = (key: SortKey) =>
    onState({ ...state, sort: key, descending: key === sort && !descending });
  React.useEffect(() => host.onReview?.(() => setAsking({ type: 'review' })), [host]);
  const closeDialog = () => setAsking(null);
  const releaseAndClose = (names: string[]) => {
    closeDialog();
    actions.releaseNames(names);
  };
  const onPages = useLatest((pages: number[]) => {
    if (shown?.question === question) {
      listing.wanted = ({ total }) => pages.filter(page => page * PAGE_SIZE < total);
      listing.fill();
    }
  });

  const body = !shown ? (
    error ? (
      <Failed error={error} onRetry={refresh} />
    ) : (
      <Loading />
    )
  ) : shown.total === 0 ? (
    shown.question.filter ? (
      <NoMatch filter={shown.question.filter} onClear={() => setFilter('')} />
    ) : (
      <Empty />
    )
  ) : (
    <List
      listing={shown}
      state={state}
      fontSize={fontSize}
      selected={selected}
      opened={opened}
      onSelect={select}
      onCollapse={collapse}
      onSort={sortBy}
      onFilterKey={() => filterBox.current?.focus()}
      onPages={onPages}
    />
  );

  return (
    <Surroundings.Provider value={surroundings}>
      <div ref={root} className={wide ? 'jshm-browser jshm-wide' : 'jshm-browser'}>
        <Header
          summary={shown?.summary ?? null}
          state={state}
          onState={onState}
          filter={filter}
          onFilter={setFilter}
          filterRef={filterBox}
          onRefresh={refresh}
          onReview={() => setAsking({ type: 'review' })}
        />
        {waiting && <Waiting />}
        {shown && error && <Outdated error={error} onRetry={refresh} />}
        {body}
        <Messages {...messages} />
        {shown?.summary.where && (
          <footer className="jshm-footer" title={shown.summary.where}>
            <bdi>{shown.summary.where}</bdi>
          </footer>
        )}
        {asking?.type === 'release' && (
          <ReleaseDialog
            row={asking.row}
            onAccept={() => releaseAndClose([asking.row.name])}
            onClose={closeDialog}
          />
        )}
        {asking?.type === 'review' && (
          <ReviewDialog backend={backend} onRelease={releaseAndClose} onClose={closeDialog} />
        )}
      </div>
    </Surroundings.Provider>
  );
}
