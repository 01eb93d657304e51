// Bundles the widget: the view of the panel with Preact instead of React, because anywidget sends the
// bundle to the browser with every widget.
import { mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const out = '../jshm/static';
const react = fileURLToPath(new URL('src/widget/react.ts', import.meta.url));

await mkdir(out, { recursive: true });
await build({
  entryPoints: [
    { in: 'src/widget/index.tsx', out: 'widget' },
    { in: 'style/widget.css', out: 'widget' }
  ],
  outdir: out,
  bundle: true,
  format: 'esm',
  charset: 'utf8',
  target: 'es2020',
  minify: true,
  legalComments: 'none',
  define: { 'process.env.NODE_ENV': '"production"' },
  alias: { react, 'react-dom/client': react },
  // Names with an underscore, of Preact and of jshm, are used only inside the bundle.
  mangleProps: /^_/
});
