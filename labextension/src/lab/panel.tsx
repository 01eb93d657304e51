import { ReactWidget } from '@jupyterlab/apputils';
import { Signal } from '@lumino/signaling';
import * as React from 'react';
import {
  SegmentBrowser,
  type IHost,
  type ITranslate,
  type IViewState,
  type PendingReleases
} from '../view';
import { memoryIcon } from './icon';
import type { StoreModel } from './model';
import type { RestBackend } from './rest';
import type { Settings } from './settings';
import type { ViewStateKeeper } from './viewstate';
import { whileVisible } from './visible';

export interface IPanelOptions {
  backend: RestBackend;
  host: IHost;
  model: StoreModel;
  pending: PendingReleases;
  settings: Settings;
  states: ViewStateKeeper;
  trans: ITranslate;
}

/** The side panel. It sends no requests before it is first shown, nor while it is hidden. */
export class SharedMemoryPanel extends ReactWidget {
  constructor(options: IPanelOptions) {
    super();
    this._options = options;
    this._host = { ...options.host, onReview: this._onReview };
    const { trans, model, backend, settings, states } = options;
    this.id = 'jshm-panel';
    this.addClass('jshm-panel');
    this.title.icon = memoryIcon;
    this.title.caption = trans.__('Shared memory');
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', trans.__('Shared memory'));
    settings.changed.connect(this.update, this);
    model.changed.connect(() => {
      if (this.isVisible) {
        backend.notify();
      }
    });
    void states.load().then(state => {
      this._state = state;
      this.update();
    });
    whileVisible(this, () => {
      this._wasShown = true;
      this.update();
      return model.watch();
    });
  }

  /** The name whose row is open. */
  get selected(): string | null {
    return this._selected;
  }

  set selected(name: string | null) {
    this._selected = name;
    this.update();
  }

  /** Focus the list, or the filter if there is no list. */
  focus(): void {
    const wanted = ['[data-item][tabindex="0"]', 'input', 'button'];
    const found = wanted.map(each => this.node.querySelector<HTMLElement>(each)).find(Boolean);
    found?.focus();
  }

  /** Open the dialog to release names that nobody holds. */
  review(): void {
    this._reviewWanted = true;
    this._reviewRequested.emit();
  }

  protected override render(): React.JSX.Element | null {
    if (!this._wasShown || !this._state) {
      return null;
    }
    const { backend, pending, settings, trans } = this._options;
    return (
      <SegmentBrowser
        backend={backend}
        host={this._host}
        trans={trans}
        pending={pending}
        confirmRelease={settings.now.confirmRelease}
        state={this._state}
        onState={this._onState}
        selected={this._selected}
        onSelect={this._onSelect}
        pollSeconds={0}
      />
    );
  }

  private readonly _onState = (state: IViewState): void => {
    this._state = state;
    this._options.states.save(state);
    this.update();
  };

  private readonly _onSelect = (name: string | null): void => {
    this.selected = name;
  };

  /** The command may come before the view exists: then the view reviews when it is there. */
  private readonly _onReview = (review: () => void): (() => void) => {
    const slot = () => {
      if (this._reviewWanted) {
        this._reviewWanted = false;
        review();
      }
    };
    this._reviewRequested.connect(slot);
    slot();
    return () => void this._reviewRequested.disconnect(slot);
  };

  private readonly _options: IPanelOptions;
  private readonly _host: IHost;
  private readonly _reviewRequested = new Signal<this, void>(this);
  private _reviewWanted = false;
  private _state: IViewState | null = null;
  private _selected: string | null = null;
  private _wasShown = false;
}
