/** A store for tests and for looking at the view without Jupyter. */
import type { IDetails, IHolder, IRow, ISummary, IProcess, Mode } from '../view';

export const NOW = 1_790_000_000;

export function who(label: string, options: Partial<IProcess> = {}): IProcess {
  return {
    label,
    path: label.endsWith('.ipynb') ? label : '',
    alive: true,
    here: false,
    ...options
  };
}

export function holder(label: string, mode: Mode = 'r', options: Partial<IProcess> = {}): IHolder {
  return { ...who(label, options), mode, pid: 4242 };
}

export function row(name: string, options: Partial<IRow> = {}): IRow {
  const publisher = options.publisher ?? who('train.ipynb');
  return {
    name,
    version: 1,
    state: 'current',
    kind: 'array',
    summary: 'float64 (1000, 1000)',
    dtype: 'float64',
    shape: [1000, 1000],
    nbytes: 8_000_000,
    publisher,
    group: publisher.label,
    created: Date.now() / 1000 - 130,
    note: '',
    keep: false,
    writable: false,
    overflow: false,
    onlyCopy: false,
    keeps: 0,
    lifetime: 'server',
    holders: [],
    older: [],
    ...options
  };
}

function object(name: string, summary: string, options: Partial<IRow> = {}): IRow {
  return row(name, { kind: 'object', summary, dtype: '', shape: [], nbytes: 4100, ...options });
}

/** What a group of people who work on one machine could have. */
export function realisticRows(): IRow[] {
  const old = who('old.ipynb', { alive: false });
  const eda = who('notebooks/eda.ipynb', { label: 'eda.ipynb' });
  return [
    row('X_train', {
      version: 3,
      summary: 'float64 (1000000, 1000)',
      shape: [1_000_000, 1000],
      nbytes: 8e9,
      note: 'train split, standardised',
      holders: [holder('eda.ipynb'), holder('report.ipynb', 'c')],
      older: [
        {
          version: 2,
          nbytes: 8e9,
          summary: 'float64 (1000000, 1000)',
          holders: [holder('plot.ipynb')]
        }
      ]
    }),
    row('frames', {
      summary: 'uint8 (480, 640, 3)',
      dtype: 'uint8',
      shape: [480, 640, 3],
      nbytes: 1.3e9,
      writable: true,
      holders: [holder('camera.ipynb', 'r+')]
    }),
    row('loss', {
      summary: 'float32 (120000,)',
      dtype: 'float32',
      shape: [120_000],
      nbytes: 480_000
    }),
    row('exp1/a_rather_long_experiment_name/with_layers/encoder/weights_final', {
      nbytes: 512_000_000,
      holders: [holder('eda.ipynb')],
      keep: true
    }),
    object('train_model', 'function train_model(X, y, *, lr=0.1)', { nbytes: 3_800 }),
    row('customers', {
      kind: 'table',
      summary: 'table 1,204,511 × 14',
      dtype: '',
      shape: [],
      nbytes: 214_000_000,
      publisher: eda,
      group: 'eda',
      holders: [holder('dashboards/weekly.ipynb', 'r', { label: 'weekly.ipynb' })]
    }),
    row('embedding', {
      publisher: eda,
      group: 'eda',
      summary: 'float16 (50000, 768)',
      dtype: 'float16',
      shape: [50_000, 768],
      nbytes: 76_800_000,
      overflow: true
    }),
    row('trades', {
      publisher: eda,
      group: 'eda',
      summary: 'record (900000,)',
      dtype: 'record',
      shape: [900_000],
      nbytes: 36_000_000
    }),
    object('preprocess', 'function preprocess(df, *, scale)', {
      publisher: old,
      group: 'old',
      onlyCopy: true
    }),
    object('forest', 'RandomForestRegressor', {
      publisher: old,
      group: 'old',
      nbytes: 612_000_000,
      onlyCopy: true,
      keep: true
    }),
    row('scratch', {
      publisher: old,
      group: 'old',
      nbytes: 64_000_000,
      state: 'released',
      holders: [holder('eda.ipynb')]
    }),
    row('مصفوفة', { publisher: old, group: 'old', nbytes: 999 })
  ];
}

export function manyRows(n: number): IRow[] {
  return Array.from({ length: n }, (_, i) => {
    const notebook = `notebook-${String(Math.floor(i / 37)).padStart(3, '0')}.ipynb`;
    return row(`run/${String(i).padStart(5, '0')}/weights`, {
      publisher: who(notebook),
      group: notebook,
      nbytes: 1000 * (i + 1),
      holders: i % 3 ? [] : [holder('eda.ipynb')]
    });
  });
}

export function summaryOf(rows: readonly IRow[]): ISummary {
  const sum = (some: readonly IRow[]) => some.reduce((total, each) => total + each.nbytes, 0);
  const current = rows.filter(each => each.state === 'current');
  const held = current.filter(each => each.holders.length);
  const idle = current.filter(each => !each.holders.length);
  const old =
    rows.flatMap(each => each.older).reduce((total, each) => total + each.nbytes, 0) +
    sum(rows.filter(each => each.state === 'released'));
  const used = sum(held) + sum(idle) + old;
  return {
    where: '/dev/shm/jshm-1000',
    names: current.length,
    used,
    inUse: sum(held),
    old,
    unnamed: 0,
    idle: sum(idle),
    idleNames: idle.length,
    spares: 0,
    free: Math.max(0, 32e9 - used),
    capacity: 34e9,
    expired: 0,
    overflow: sum(rows.filter(each => each.overflow)),
    notices: []
  };
}

export function details(of: IRow): IDetails {
  const isObject = of.kind === 'object';
  return {
    ...of,
    order: 'C',
    doc: isObject ? 'Scale the columns that need it.' : '',
    place: isObject ? 'In[3]' : '',
    python: '3.12',
    modules: isObject ? { numpy: '2.4.6', pandas: '3.0.1' } : {},
    shared: isObject ? of.nbytes - 1000 : 0,
    copied: isObject ? 1000 : 0,
    columns: [],
    references: isObject ? { 'X_train v3': 8e9 } : {},
    together: []
  };
}
