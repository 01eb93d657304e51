import * as React from 'react';
import { Surroundings, type ISurroundings } from './context';
import { Header } from './Header';
import { useControlled, useDebounced, useLatest, useOnScreen, useSpace } from './hooks';
import { List } from './List';
import { asBackendError, indexOf, PAGE_SIZE, rowOf, type IListing } from './listing';
import { Messages, useMessages } from './messages';
import { PendingReleases } from './pending';
import { ReleaseDialog } from './ReleaseDialog';
import { ReviewDialog } from './ReviewDialog';
import { Empty, Failed, Loading, NoMatch, Outdated, Waiting } from './States';
import {
  BackendError,
  type IBackend,
  type IHost,
  type IRow,
  type ITranslate,
  type IViewState,
  type SortKey
} from './types';
import { useActions } from './useActions';
import { sortedBy } from './state';
import { useListing } from './useListing';
import { useOpened } from './useOpened';

const FILTER_MS = 150;

export interface ISegmentBrowserProps {
  backend: IBackend;
  host: IHost;
  trans: ITranslate;
  /** The pending releases, if others on this page share them. */
  pending?: PendingReleases;
  /** Whether to ask before a release. */
  confirmRelease: boolean;
  state: IViewState;
  onState(state: IViewState): void;
  /** The text of the filter, if the surroundings control it. */
  filter?: string;
  onFilter?(text: string): void;
  /** The name whose row is open, if the surroundings control it. */
  selected?: string | null;
  onSelect?(name: string | null): void;
  /** Seconds between two reads of the list while it is on screen; 0 for never. */
  pollSeconds: number;
}

type Unsubscribe = (() => void) | undefined;

/** A value of a source that has callbacks for its changes. */
function useValue<S, T>(
  source: S,
  read: (source: S) => T,
  subscribe: (source: S, changed: () => void) => Unsubscribe
): T {
  const [value, setValue] = React.useState(() => read(source));
  React.useEffect(() => {
    const update = () => setValue(() => read(source));
    update();
    return subscribe(source, update);
  }, [source, read, subscribe]);
  return value;
}

/** The notebook that code is inserted into. */
const targetOf = (host: IHost) => host.target?.() ?? null;
const onTarget = (host: IHost, changed: () => void) => host.onTarget?.(changed);
/** Names that look released. */
const namesOf = (pending: PendingReleases) => pending.names;
const onNames = (pending: PendingReleases, changed: () => void) => pending.subscribe(changed);

function useWaiting(backend: IBackend): boolean {
  const [waiting, setWaiting] = React.useState(false);
  React.useEffect(() => backend.onWaiting?.(setWaiting), [backend]);
  return waiting;
}

/** The row of a name, and whether it is in the list now; if not, the row is the last one known. */
function useRow(shown: IListing | null, name: string | null): { row: IRow | null; known: boolean } {
  const last = React.useRef<IRow | null>(null);
  const index = shown && name !== null ? indexOf(shown, name) : -1;
  const row = (shown && index >= 0 && rowOf(shown, index)) || null;
  last.current = row ?? (last.current?.name === name ? last.current : null);
  return { row: last.current, known: row !== null };
}

/** The name that the dialog asks about, and its newest version when the dialog was opened. */
interface IAsking {
  name: string;
  version: number;
}

/** The list of shared names, with previews, details and actions. */
export function SegmentBrowser(props: ISegmentBrowserProps): React.JSX.Element {
  const { backend, host, trans, state, onState } = props;
  const root = React.useRef<HTMLDivElement>(null);
  const filterBox = React.useRef<HTMLInputElement>(null);
  const { wide, fontSize } = useSpace(root);
  const onScreen = useOnScreen(root);
  const target = useValue(host, targetOf, onTarget);
  const waiting = useWaiting(backend);
  const messages = useMessages();
  const [asking, setAsking] = React.useState<IAsking | null>(null);
  const [reviewing, setReviewing] = React.useState(false);
  const [refreshes, setRefreshes] = React.useState(0);
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

  const { row } = useRow(shown, selected);
  const turn = `${refreshes} ${row?.writable ? shown?.state : ''}`;
  const opened = useOpened(backend, row, turn, (failure: BackendError) => {
    messages.fail(failure);
    if (failure.reason === 'missing') {
      select(null);
      refresh();
    }
  });

  const ownPending = React.useMemo(() => new PendingReleases(backend), [backend]);
  const pending = props.pending ?? ownPending;
  const releasing = useValue(pending, namesOf, onNames);
  React.useEffect(() => pending.settle(), [pending, shown?.state]);
  const actions = useActions({
    backend,
    host,
    trans,
    messages,
    pending,
    refresh,
    ask: props.confirmRelease ? setAsking : null
  });
  const surroundings = React.useMemo<ISurroundings>(
    () => ({ trans, host, actions, releasing, target, wide }),
    [trans, host, actions, releasing, target, wide]
  );

  const collapse = useLatest((id: string) => {
    const { collapsed } = state;
    const rest = collapsed.filter(each => each !== id);
    onState({ ...state, collapsed: rest.length < collapsed.length ? rest : [...collapsed, id] });
  });
  const sortBy = (key: SortKey) =>
    onState({ ...state, ...(key === sort ? { descending: !descending } : sortedBy(key)) });
  const refreshAll = () => {
    setRefreshes(refreshes + 1);
    refresh();
  };
  const review = useLatest(() => {
    setAsking(null);
    setReviewing(true);
  });
  React.useEffect(() => host.onReview?.(review), [host, review]);
  const closeDialog = () => {
    setAsking(null);
    setReviewing(false);
  };
  const releaseAndClose = (rows: IRow[]) => {
    closeDialog();
    actions.releaseRows(rows);
  };

  const asked = useRow(shown, asking?.name ?? null);
  const lookForAsked = useLatest(() => {
    const tell = () => {
      closeDialog();
      messages.fail(new BackendError('missing', trans.__('%1 is released already.', asking?.name)));
    };
    if (asked.row?.state === 'released') {
      tell();
    } else if (asking && !asked.known) {
      backend.info(asking.name).catch((reason: unknown) => {
        if (asBackendError(reason).reason === 'missing') {
          tell();
        }
      });
    }
  });
  React.useEffect(lookForAsked, [lookForAsked, shown, asking]);

  const onLook = useLatest((pages: number[], kept: string[][]) => {
    if (shown?.question === question) {
      listing.wanted = ({ total }) => pages.filter(page => page * PAGE_SIZE < total);
      listing.kept = kept;
      listing.sought = selected;
      listing.fill();
    }
  });

  const body = !shown ? (
    error ? (
      <Failed error={error} onRetry={refreshAll} />
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
      onLook={onLook}
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
          onRefresh={refreshAll}
          onReview={review}
        />
        {waiting && <Waiting text={host.waiting} />}
        {shown && error && <Outdated error={error} onRetry={refreshAll} />}
        {body}
        <Messages {...messages} />
        {shown?.summary.where && (
          <footer className="jshm-footer" title={shown.summary.where}>
            <bdi>{shown.summary.where}</bdi>
          </footer>
        )}
        {asking && asked.row && (
          <ReleaseDialog
            row={asked.row}
            isNewer={asked.row.version > asking.version}
            onAccept={() => asked.row && releaseAndClose([asked.row])}
            onClose={closeDialog}
          />
        )}
        {reviewing && (
          <ReviewDialog backend={backend} onRelease={releaseAndClose} onClose={closeDialog} />
        )}
      </div>
    </Surroundings.Provider>
  );
}
