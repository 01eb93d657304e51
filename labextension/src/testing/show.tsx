/** Renders the view with a backend and a host that records its calls. */
import { act, render } from '@testing-library/react';
import userEvent, { type UserEvent } from '@testing-library/user-event';
import * as React from 'react';
import { vi, type Mock } from 'vitest';
import {
  attachCode,
  defaultState,
  nullTranslator,
  SegmentBrowser,
  type IBackend,
  type IHost,
  type ISegmentBrowserProps
} from '../view';

interface IFakeHost extends IHost {
  open: Mock;
  insert: Mock;
  copy: Mock;
  drag: Mock;
}

export interface IShown {
  user: UserEvent;
  /** The host, unless the test passes another one. */
  host: IFakeHost;
}

function Browser(props: ISegmentBrowserProps): React.JSX.Element {
  const [state, setState] = React.useState(props.state);
  return <SegmentBrowser {...props} state={state} onState={setState} />;
}

/** Render the view, and wait for the list. */
export async function show(
  backend: IBackend,
  options: Partial<ISegmentBrowserProps> = {}
): Promise<IShown> {
  const host: IFakeHost = {
    open: vi.fn(),
    insert: vi.fn(() => Promise.resolve()),
    copy: vi.fn(() => Promise.resolve()),
    drag: vi.fn(),
    target: vi.fn(() => 'eda.ipynb'),
    attachCode: row => attachCode(row.name, false)
  };
  const props: ISegmentBrowserProps = {
    backend,
    host,
    trans: nullTranslator,
    confirmRelease: true,
    state: { ...defaultState, grouped: false },
    onState: () => undefined,
    pollSeconds: 0,
    ...options
  };
  render(<Browser {...props} />);
  await rest();
  return { user: userEvent.setup(), host };
}

/** Wait until pending work is done. */
export async function rest(milliseconds = 20): Promise<void> {
  await act(() => new Promise(resolve => setTimeout(resolve, milliseconds)));
}

/** The row of a name. */
export function rowOfName(name: string): HTMLElement {
  const element = [...document.querySelectorAll<HTMLElement>('.jshm-row')].find(
    each => each.querySelector('.jshm-name')?.getAttribute('title') === name
  );
  if (!element) {
    throw new Error(`there is no row ${name}`);
  }
  return element;
}

/** Names of all rows in the document. */
export function namesShown(): (string | null)[] {
  return [...document.querySelectorAll('.jshm-row .jshm-name')].map(name => name.textContent);
}
