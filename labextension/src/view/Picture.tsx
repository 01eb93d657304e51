/** Heatmaps and images on a canvas. */
import * as React from 'react';
import { useSurroundings } from './context';
import { pixelsOf } from './pixels';
import { numberText } from './text';
import type { Preview } from './types';

type PicturePreview = Extract<Preview, { type: 'heatmap' | 'image' }>;

export function Picture({ picture }: { picture: PicturePreview }): React.JSX.Element {
  const { trans } = useSurroundings();
  const canvas = React.useRef<HTMLCanvasElement>(null);
  const pixels = React.useMemo(() => pixelsOf(picture), [picture]);

  React.useLayoutEffect(() => {
    const context = canvas.current?.getContext('2d');
    if (context && pixels) {
      context.putImageData(new ImageData(pixels.rgba, pixels.width, pixels.height), 0, 0);
    }
  }, [pixels]);

  if (!pixels) {
    return <p className="jshm-none">{trans.__('This picture cannot be shown: it is damaged.')}</p>;
  }
  const { width, height } = pixels;
  const range =
    picture.type === 'heatmap'
      ? trans.__('%1 to %2', numberText(picture.low), numberText(picture.high))
      : '';
  return (
    <figure className="jshm-figure">
      <canvas
        ref={canvas}
        className={`jshm-canvas jshm-${picture.type}`}
        width={width}
        height={height}
        role="img"
        aria-label={
          picture.type === 'heatmap'
            ? trans.__('Heatmap of %1 × %2 cells, values from %3', height, width, range)
            : trans.__('Image of %1 × %2 pixels', height, width)
        }
      />
      {(range || picture.slice) && (
        <figcaption className="jshm-caption">
          {range && (
            <span className="jshm-scale">
              <span className="jshm-colours" aria-hidden="true" /> {range}
            </span>
          )}
          {picture.slice && <code>{picture.slice}</code>}
        </figcaption>
      )}
    </figure>
  );
}
