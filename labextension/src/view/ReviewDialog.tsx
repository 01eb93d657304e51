import * as React from 'react';
import { useSurroundings } from './context';
import { Dialog } from './Dialog';
import { whenAnswered } from './hooks';
import { asBackendError, PAGE_SIZE } from './listing';
import { Name } from './Name';
import { Marks } from './Row';
import { ageText, sizeText } from './text';
import type { BackendError, IBackend, IRow } from './types';
import { marksOf } from './words';

const SMALL_BYTES = 1 << 18;
const MOST_ROWS = 1000;

interface IUnused {
  rows: IRow[];
  total: number;
}

/** Names that nobody holds, the largest first, up to a bound. */
async function unusedNames(backend: IBackend): Promise<IUnused> {
  const rows = new Map<string, IRow>();
  for (let offset = 0; ; offset += PAGE_SIZE) {
    const page = await backend.list({
      filter: '',
      sort: 'size',
      descending: true,
      grouped: false,
      unused: true,
      offset,
      limit: PAGE_SIZE
    });
    page.rows.forEach(row => rows.set(row.name, row));
    const end = offset + PAGE_SIZE;
    if (!page.rows.length || end >= page.total || end >= MOST_ROWS) {
      return { rows: [...rows.values()], total: Math.max(page.total, rows.size) };
    }
  }
}

/** Whether a row may be among those to release unless somebody says otherwise. */
function isSafe(row: IRow): boolean {
  // A small object frees next to nothing, and nobody would hold it: all have copies.
  return !row.onlyCopy && !row.keep && (row.kind !== 'object' || row.nbytes > SMALL_BYTES);
}

function Choice(props: {
  row: IRow;
  checked: boolean;
  onCheck(checked: boolean): void;
}): React.JSX.Element {
  const { row, checked, onCheck } = props;
  const { trans } = useSurroundings();
  return (
    <li>
      <label className="jshm-review-row">
        <input
          type="checkbox"
          checked={checked}
          onChange={event => onCheck(event.currentTarget.checked)}
        />
        <Name text={row.name} />
        <span className="jshm-review-notes">
          <Marks marks={marksOf(row, trans)} />
          <span className="jshm-weak jshm-ellipsis">
            <bdi>{row.publisher.label}</bdi> · {ageText(row.created, trans)}
          </span>
        </span>
        <span className="jshm-cell-size">{sizeText(row.nbytes)}</span>
      </label>
    </li>
  );
}

export function ReviewDialog(props: {
  backend: IBackend;
  undoLimit: number;
  onRelease(names: string[]): void;
  onClose(): void;
}): React.JSX.Element {
  const { backend, undoLimit, onRelease, onClose } = props;
  const { trans } = useSurroundings();
  const [unused, setUnused] = React.useState<IUnused | null>(null);
  const [error, setError] = React.useState<BackendError | null>(null);
  const [checked, setChecked] = React.useState<ReadonlySet<string>>(new Set());

  React.useEffect(
    () =>
      whenAnswered(
        unusedNames(backend),
        found => {
          setUnused(found);
          setChecked(new Set(found.rows.filter(isSafe).map(row => row.name)));
        },
        reason => setError(asBackendError(reason))
      ),
    [backend]
  );

  const rows = unused?.rows ?? [];
  const chosen = rows.filter(row => checked.has(row.name));
  const check = (name: string, on: boolean) => {
    const next = new Set(checked);
    if (on) {
      next.add(name);
    } else {
      next.delete(name);
    }
    setChecked(next);
  };
  const more = (unused?.total ?? 0) - rows.length;

  return (
    <Dialog
      title={trans.__('Not in use')}
      accept={trans._n('Release %1 name', 'Release %1 names', chosen.length)}
      disabled={!chosen.length}
      onAccept={() => onRelease(chosen.map(row => row.name))}
      onClose={onClose}
    >
      {error ? (
        <p role="alert">
          {error.message} {error.remedy}
        </p>
      ) : !unused ? (
        <p aria-busy="true">{trans.__('Looking…')}</p>
      ) : !rows.length ? (
        <p>{trans.__('Every name is in use.')}</p>
      ) : (
        <>
          <p>
            {trans.__(
              'Nobody holds these right now. Only copies and kept names are not checked: check them if you mean them.'
            )}
          </p>
          <ul className="jshm-review">
            {rows.map(row => (
              <Choice
                key={row.name}
                row={row}
                checked={checked.has(row.name)}
                onCheck={on => check(row.name, on)}
              />
            ))}
          </ul>
          {more > 0 && <p className="jshm-weak">{trans.__('and %1 more', more)}</p>}
          {undoLimit > 0 && chosen.length > undoLimit && (
            <p role="alert">
              {trans.__('This cannot be undone: more than %1 names at once.', undoLimit)}
            </p>
          )}
          <p className="jshm-review-total" aria-live="polite">
            {trans.__(
              '%1 of %2 checked · %3',
              chosen.length,
              rows.length,
              sizeText(chosen.reduce((sum, row) => sum + row.nbytes, 0))
            )}
          </p>
        </>
      )}
    </Dialog>
  );
}
