import { ReactWidget } from '@jupyterlab/apputils';
import { GroupItem, TextItem } from '@jupyterlab/statusbar';
import * as React from 'react';
import { sizeText, type ITranslate } from '../view';
import { memoryIcon } from './icon';
import type { StoreModel } from './model';
import { whileVisible } from './visible';

/** The size of shared memory in the status bar. */
export class StatusItem extends ReactWidget {
  constructor(model: StoreModel, open: () => void, trans: ITranslate) {
    super();
    this._model = model;
    this._open = open;
    this._trans = trans;
    this.addClass('jshm-status');
    model.changed.connect(this.update, this);
    whileVisible(this, () => model.watch());
  }

  protected override render(): React.JSX.Element | null {
    const summary = this._model.summary;
    // Not `hide()`: a hidden widget would stop to watch the store.
    this.node.style.display = summary?.used ? '' : 'none';
    if (!summary?.used) {
      return null;
    }
    const used = sizeText(summary.used);
    const [free, spares] = [sizeText(summary.free), sizeText(summary.spares)];
    return (
      <GroupItem
        spacing={4}
        role="button"
        tabIndex={0}
        title={
          summary.spares
            ? this._trans.__('Shared memory: %1 used, %2 free, %3 in spares', used, free, spares)
            : this._trans.__('Shared memory: %1 used, %2 free', used, free)
        }
        onClick={this._open}
        onKeyDown={event => {
          if (event.key === 'Enter' || event.key === ' ') {
            event.preventDefault();
            this._open();
          }
        }}
      >
        <memoryIcon.react stylesheet="statusBar" tag="span" />
        <TextItem source={used} />
      </GroupItem>
    );
  }

  private readonly _model: StoreModel;
  private readonly _open: () => void;
  private readonly _trans: ITranslate;
}
