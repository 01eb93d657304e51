import * as React from 'react';
import { useSurroundings } from './context';
import { Button } from './icons';
import type { IWho } from './types';

/** A process by its name; a click opens its notebook, where there is one. */
export function Who({ who, tabIndex }: { who: IWho; tabIndex?: number }): React.JSX.Element {
  const { trans, host, actions } = useSurroundings();
  const name = <bdi>{who.here ? trans.__('this notebook') : who.label}</bdi>;
  return host.open && who.path ? (
    <Button
      className="jshm-link"
      tabIndex={tabIndex}
      title={trans.__('Open %1', who.path)}
      onClick={() => actions.open(who.path)}
    >
      {name}
    </Button>
  ) : (
    name
  );
}
