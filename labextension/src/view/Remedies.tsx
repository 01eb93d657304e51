import * as React from 'react';
import { useSurroundings } from './context';
import { Button, IconButton } from './icons';
import { remedyCode, remedyLabel } from './remedyCode';
import type { BackendError, IRemedy } from './types';

function Remedy({ remedy }: { remedy: IRemedy }): React.JSX.Element {
  const { trans, host, actions } = useSurroundings();
  const label = remedyLabel(remedy, host, trans);
  const code = remedyCode(remedy);
  const { purpose } = remedy;
  return (
    <span className="jshm-remedy">
      {purpose && `${purpose}: `}
      {label ? (
        <Button className="jshm-link" onClick={() => actions.apply(remedy)}>
          <bdi>{label}</bdi>
        </Button>
      ) : (
        <>
          <code>{code}</code>
          <IconButton
            icon="copy"
            label={trans.__('Copy %1', code)}
            onClick={() => actions.apply(remedy)}
          />
        </>
      )}
    </span>
  );
}

/** What the user can do about an error: a hint, and a button or some code for each remedy. */
export function Remedies({
  error
}: {
  error: Pick<BackendError, 'hint' | 'remedies'>;
}): React.JSX.Element {
  return (
    <>
      {error.hint}
      {error.remedies.map((remedy, i) => (
        <Remedy key={i} remedy={remedy} />
      ))}
    </>
  );
}
