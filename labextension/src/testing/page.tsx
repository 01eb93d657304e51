/**
 * A page that shows the view without Jupyter: `?as=panel&n=10000&wide=1`. Bundle it like the widget (see
 * `build-widget.mjs`) and open it with `style/jshm.css`.
 */
import * as React from 'react';
import { createRoot } from 'react-dom/client';
import {
  attachCode,
  BackendError,
  defaultState,
  nullTranslator,
  SegmentBrowser,
  type IHost,
  type IViewState
} from '../view';
import widget from '../widget';
import { manyRows, realisticRows } from './fixtures';
import { MockBackend } from './mock';
import { FakeModel, type ISent } from './model';

const parameters = new URLSearchParams(location.search);
const count = Number(parameters.get('n') ?? 0);
const backend = new MockBackend(
  parameters.has('empty') ? [] : count ? manyRows(count) : realisticRows()
);
if (parameters.has('error')) {
  backend.errors.list = new BackendError(
    'absent',
    'The server extension of jshm is not enabled on this Jupyter server.',
    'Run "pip install jshm" in the environment of the Jupyter server and restart it.'
  );
}
if (parameters.has('notice')) {
  backend.summary.notices = [
    {
      level: 'warning',
      text: 'The kernel of far.ipynb runs on another host: this list does not show what it shares.'
    }
  ];
}

const host: IHost = {
  open: () => undefined,
  insert: () => Promise.resolve(),
  target: () => 'eda.ipynb',
  attachCode: row => attachCode(row.name, false),
  copy: () => Promise.resolve()
};

function Panel(): React.JSX.Element {
  const [state, setState] = React.useState<IViewState>(defaultState);
  return (
    <SegmentBrowser
      backend={backend}
      host={host}
      trans={nullTranslator}
      confirmRelease={true}
      state={state}
      onState={setState}
      pollSeconds={0}
    />
  );
}

/** Answers a message like a kernel. */
async function answer(model: FakeModel, { id, method, params }: ISent): Promise<void> {
  const name = params.name as string;
  const { versions } = params as { versions?: Record<string, number> };
  const methods: Record<string, () => Promise<unknown>> = {
    list: () => backend.list(params.query as Parameters<MockBackend['list']>[0]),
    info: () => backend.info(name),
    preview: () => backend.preview(name),
    release: () =>
      backend.release(
        Object.entries(versions ?? {}).map(([each, version]) => ({
          name: each,
          version,
          nbytes: 0
        }))
      ),
    attach: () => Promise.resolve(`${String(params.variable)} ← v1, ${String(params.mode)}`)
  };
  try {
    model.emit('msg:custom', { id, result: await methods[method]() });
  } catch (error) {
    const { reason, message, remedies } = error as BackendError;
    model.emit('msg:custom', { id, error: { reason, message, remedies } });
  }
}

const element = document.getElementById('root');
if (element && parameters.get('as') === 'panel') {
  createRoot(element).render(<Panel />);
} else if (element) {
  const model = new FakeModel({
    filter: '',
    selected: '',
    confirm_release: true,
    magic_code: false
  });
  if (!parameters.has('busy')) {
    model.onSend = message => void answer(model, message);
  }
  backend.subscribe(() => model.emit('msg:custom', { changed: true }));
  widget.render({ model: model as never, el: element });
}
