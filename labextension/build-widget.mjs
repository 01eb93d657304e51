// Bundles the widget: the same view as the panel's, with Preact in place of React, because anywidget
// sends the bundle to the browser with every widget.
import { mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const out = '../jshm/static';
const react = fileURLToPath(new URL('src/widget/react.ts', import.meta.url));

// Names that mean something only within the bundle, beside those with an underscore: they get short ones. A
// property of an element, or of what is sent to or comes from the kernel, must never be among them.
const own = [
  'on(Accept|Active|Check|Choose|Clear|Close|Collapse|Dismiss|Filter|FilterKey|Look|Refresh|Retry|Review|Select)',
  'on(Sort|State|Target|Toggle|Waiting)',
  'actions|attachCode|collapsed|confirmRelease|details|detailsHeight|filterRef|firstItem|firstRow|headerOf|heightOf|isNewer',
  'itemOfGroup|itemOfRow|layout|listing|opened|openItem|pollSeconds|question|releaseNames|rowIndex|trans|wide'
];

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
  // Preact takes HTML's own word too, which is shorter.
  mangleProps: new RegExp(`^(_|(className|${own.join('|')})$)`),
  mangleCache: { className: 'class' }
});
