/** The widget: the view in a notebook's cell, with the kernel as its backend (anywidget). */
import type { RenderProps } from '@anywidget/types';
import * as React from 'react';
import { createRoot } from 'react-dom/client';
import {
  attachCode,
  defaultState,
  nullTranslator,
  SegmentBrowser,
  type IHost,
  type IViewState
} from '../view';
import { copyText } from './clipboard';
import { CommBackend, type Model } from './comm';

const POLL_SECONDS = 10;

function useTrait<T>(model: Model, name: string): [T, (value: T) => void] {
  const [value, setValue] = React.useState<T>(() => model.get(name) as T);
  React.useEffect(() => {
    const update = () => setValue(model.get(name) as T);
    update();
    model.on(`change:${name}`, update);
    return () => model.off(`change:${name}`, update);
  }, [model, name]);
  const change = React.useCallback(
    (next: T) => {
      setValue(next);
      model.set(name, next);
      model.save_changes();
    },
    [model, name]
  );
  return [value, change];
}

function Browser({ model, backend }: { model: Model; backend: CommBackend }): React.JSX.Element {
  const [filter, setFilter] = useTrait<string>(model, 'filter');
  const [selected, setSelected] = useTrait<string>(model, 'selected');
  const [confirmRelease] = useTrait<boolean>(model, 'confirm_release');
  const [magic] = useTrait<boolean>(model, 'magic_code');
  const [state, setState] = React.useState<IViewState>({ ...defaultState, grouped: false });
  const host = React.useMemo<IHost>(
    () => ({
      attach: (name, variable, mode) => backend.attach(name, variable, mode),
      attachCode: row => attachCode(row.name, magic),
      copy: copyText,
      waiting: 'Waiting for the kernel …'
    }),
    [backend, magic]
  );
  return (
    <SegmentBrowser
      backend={backend}
      host={host}
      trans={nullTranslator}
      confirmRelease={confirmRelease}
      state={state}
      onState={setState}
      filter={filter}
      onFilter={setFilter}
      selected={selected || null}
      onSelect={name => setSelected(name ?? '')}
      pollSeconds={POLL_SECONDS}
    />
  );
}

function render({ model, el }: Pick<RenderProps, 'model' | 'el'>): () => void {
  el.classList.add('jshm-widget');
  // Keys go to the list and not to the notebook around it.
  el.setAttribute('data-lm-suppress-shortcuts', 'true');
  const backend = new CommBackend(model);
  const root = createRoot(el);
  root.render(<Browser model={model} backend={backend} />);
  return () => {
    root.unmount();
    backend.dispose();
  };
}

export default { render };
