import * as React from 'react';
import { useSurroundings } from './context';
import { Dialog } from './Dialog';
import { whenAnswered } from './hooks';
import { asBackendError } from './listing';
import { Name } from './Name';
import { Marks } from './Row';
import { Remedies } from './Remedies';
import { ageText, sizeText } from './text';
import type { BackendError, IBackend, IPage, IRow } from './types';
import { marksOf } from './words';

const SMALL_BYTES = 1 << 18;
const MOST_ROWS = 1000;

/** The names that nobody holds, the largest first, up to a limit. */
function unusedNames(backend: IBackend): Promise<IPage> {
  return backend.list({
    filter: '',
    sort: 'size',
    descending: true,
    grouped: false,
    unused: true,
    offset: 0,
    limit: MOST_ROWS
  });
}

/** Whether a row is checked at first. */
function isSafe(row: IRow): boolean {
  // A small object is never held, because each attach copies it; and it frees almost nothing.
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
  onRelease(rows: IRow[]): void;
  onClose(): void;
}): React.JSX.Element {
  const { backend, onRelease, onClose } = props;
  const { trans, releasing } = useSurroundings();
  const [unused, setUnused] = React.useState<IPage | null>(null);
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

  const rows = (unused?.rows ?? []).filter(row => !releasing.has(row.name));
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
  const more = unused ? unused.total - unused.rows.length : 0;

  return (
    <Dialog
      title={trans.__('Not in use')}
      accept={trans._n('Release %1 name', 'Release %1 names', chosen.length)}
      disabled={!chosen.length}
      onAccept={() => onRelease(chosen)}
      onClose={onClose}
    >
      {error ? (
        <p role="alert">
          {error.message} <Remedies error={error} />
        </p>
      ) : !unused ? (
        <p aria-busy="true">{trans.__('Loading…')}</p>
      ) : !rows.length ? (
        <p>{trans.__('Every name is in use.')}</p>
      ) : (
        <>
          <p>
            {trans.__('Nobody holds these names now. Only copies and kept names are not checked.')}
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
