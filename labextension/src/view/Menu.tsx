import * as React from 'react';
import { useSurroundings } from './context';
import { Button, Icon, IconButton } from './icons';
import { sortedBy } from './state';
import type { ITranslate, IViewState, SortKey } from './types';

function sortNames(trans: ITranslate): [SortKey, string][] {
  return [
    ['name', trans.__('Name')],
    ['size', trans.__('Size')],
    ['age', trans.__('Age')],
    ['type', trans.__('Type')],
    ['holders', trans.__('Holders')]
  ];
}

interface IChoiceProps {
  role: 'menuitemradio' | 'menuitemcheckbox';
  checked: boolean;
  label: string;
  onChoose(): void;
}

function Choice({ role, checked, label, onChoose }: IChoiceProps): React.JSX.Element {
  return (
    <Button
      className="jshm-choice"
      role={role}
      aria-checked={checked}
      tabIndex={-1}
      onClick={onChoose}
    >
      <span className="jshm-check">{checked && <Icon name="check" />}</span>
      {label}
    </Button>
  );
}

function moveFocus(menu: HTMLElement, key: string): boolean {
  const choices = [...menu.querySelectorAll<HTMLElement>('.jshm-choice')];
  const at = choices.findIndex(choice => choice === document.activeElement);
  const to: Record<string, number> = {
    ArrowDown: (at + 1) % choices.length,
    ArrowUp: (at - 1 + choices.length) % choices.length,
    Home: 0,
    End: choices.length - 1
  };
  choices[to[key]]?.focus();
  return key in to;
}

/** The menu for the order and the grouping of the list. */
export function Menu(props: {
  state: IViewState;
  onState(state: IViewState): void;
}): React.JSX.Element {
  const { state, onState } = props;
  const { trans } = useSurroundings();
  const [open, setOpen] = React.useState(false);
  const root = React.useRef<HTMLDivElement>(null);
  const menu = React.useRef<HTMLDivElement>(null);

  React.useEffect(() => {
    if (!open) {
      return;
    }
    menu.current?.querySelector<HTMLElement>('.jshm-choice')?.focus();
    const outside = (event: Event) => {
      if (!root.current?.contains(event.target as Node)) {
        setOpen(false);
      }
    };
    document.addEventListener('pointerdown', outside);
    return () => document.removeEventListener('pointerdown', outside);
  }, [open]);

  const close = () => {
    setOpen(false);
    root.current?.querySelector<HTMLElement>('button')?.focus();
  };
  const choose = (change: Partial<IViewState>) => {
    onState({ ...state, ...change });
    close();
  };

  return (
    <div
      ref={root}
      className="jshm-menu-root"
      onBlur={event => {
        if (event.relatedTarget && !root.current?.contains(event.relatedTarget)) {
          setOpen(false);
        }
      }}
      onKeyDown={event => {
        if (open && event.key === 'Escape') {
          event.stopPropagation();
          close();
        } else if (open && menu.current && moveFocus(menu.current, event.key)) {
          event.preventDefault();
        }
      }}
    >
      <IconButton
        icon="more"
        label={trans.__('Sort and group')}
        aria-haspopup="menu"
        aria-expanded={open}
        onClick={() => setOpen(!open)}
      />
      {open && (
        <div ref={menu} className="jshm-menu" role="menu" aria-label={trans.__('Sort and group')}>
          <div className="jshm-menu-title" role="presentation">
            {trans.__('Sort by')}
          </div>
          {sortNames(trans).map(([key, label]) => (
            <Choice
              key={key}
              role="menuitemradio"
              checked={state.sort === key}
              label={label}
              onChoose={() => choose(sortedBy(key))}
            />
          ))}
          <div className="jshm-separator" role="separator" />
          <Choice
            role="menuitemcheckbox"
            checked={state.descending}
            label={trans.__('Descending')}
            onChoose={() => choose({ descending: !state.descending })}
          />
          <Choice
            role="menuitemcheckbox"
            checked={state.grouped}
            label={trans.__('Group by notebook')}
            onChoose={() => choose({ grouped: !state.grouped })}
          />
        </div>
      )}
    </div>
  );
}
