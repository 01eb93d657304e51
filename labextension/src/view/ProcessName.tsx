import * as React from 'react';
import { useSurroundings } from './context';
import { Button } from './icons';
import type { IProcess } from './types';

/** The name of a process. A click opens its notebook, if it has one. */
export function ProcessName({
  process,
  tabIndex
}: {
  process: IProcess;
  tabIndex?: number;
}): React.JSX.Element {
  const { trans, host, actions } = useSurroundings();
  const name = <bdi>{process.here ? trans.__('this notebook') : process.label}</bdi>;
  return host.open && process.path ? (
    <Button
      className="jshm-link"
      tabIndex={tabIndex}
      title={trans.__('Open %1', process.path)}
      onClick={() => actions.open(process.path)}
    >
      {name}
    </Button>
  ) : (
    name
  );
}
