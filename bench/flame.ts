/**
 * Draws a .cpuprofile (https://chromedevtools.github.io/devtools-protocol/tot/Profiler/#type-Profile) as a flame graph
 * in SVG without scripts: a frame's tooltip has its full name. Also lists the functions with the most CPU time of their
 * own.
 */

interface ProfileNode {
  readonly id: number;
  readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  readonly children?: readonly number[];
}

export interface CpuProfile {
  readonly nodes: readonly ProfileNode[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

const WIDTH = 1_600;
const ROW = 17;
/** Omits narrower frames, in pixels. */
const NARROWEST = 0.8;

/** Profile nodes without work. */
const isIdle = (name: string): boolean => name === '(idle)' || name === '(program)';

export function dearest(profile: CpuProfile): { name: string; at: string; share: number }[] {
  const own = ownTimes(profile);
  const sums = new Map<string, { name: string; at: string; time: number }>();
  let busy = 0;
  for (const node of profile.nodes) {
    const time = own.get(node.id) ?? 0;
    if (isIdle(node.callFrame.functionName)) continue;
    busy += time;
    const [name, at] = [nameOf(node), placeOf(node)];
    const sum = sums.get(name + at) ?? { name, at, time: 0 };
    sum.time += time;
    sums.set(name + at, sum);
  }
  return [...sums.values()]
    .map(({ time, ...rest }) => ({ ...rest, share: time / busy }))
    .sort((a, b) => b.share - a.share);
}

export function flameGraph(profile: CpuProfile, title: string): string {
  const own = ownTimes(profile);
  const byId = new Map(profile.nodes.map((node) => [node.id, node]));
  const frames = merge(profile.nodes.slice(0, 1), byId, own);
  const root = frames[0];
  const rects: string[] = [];
  let depth = 0;
  const draw = (frame: Frame, x: number, level: number, scale: number): void => {
    const width = frame.time * scale;
    if (width < NARROWEST) return;
    depth = Math.max(depth, level);
    rects.push(rectOf(frame, x, level, width, frame.time / (root?.time ?? 1)));
    let at = x;
    for (const child of merge(
      frame.nodes.flatMap(({ children = [] }) => children.map((id) => byId.get(id)!)),
      byId,
      own,
    )) {
      draw(child, at, level + 1, scale);
      at += child.time * scale;
    }
  };
  if (root) draw(root, 0, 0, WIDTH / root.time);
  const height = (depth + 3) * ROW;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="11">
<title>${escapeXml(title)}</title>
<rect width="100%" height="100%" fill="#fff"/><text x="4" y="13" font-size="13">${escapeXml(title)} (time waited is left out)</text>
${rects.join('\n')}
</svg>
`;
}

/** The frames of one name under one caller, merged. */
interface Frame {
  readonly name: string;
  readonly place: string;
  readonly nodes: ProfileNode[];
  time: number;
}

function merge(
  nodes: readonly ProfileNode[],
  byId: ReadonlyMap<number, ProfileNode>,
  own: ReadonlyMap<number, number>,
) {
  const total = (node: ProfileNode): number => {
    if (isIdle(node.callFrame.functionName)) return 0;
    return (node.children ?? []).reduce((sum, id) => sum + total(byId.get(id)!), own.get(node.id) ?? 0);
  };
  const frames = new Map<string, Frame>();
  for (const node of nodes) {
    const [name, place] = [nameOf(node), placeOf(node)];
    const frame = frames.get(name + place) ?? { name, place, nodes: [], time: 0 };
    frame.nodes.push(node);
    frame.time += total(node);
    frames.set(name + place, frame);
  }
  return [...frames.values()].sort((a, b) => b.time - a.time);
}

function rectOf({ name, place }: Frame, x: number, level: number, width: number, share: number): string {
  const label = name.length * 6 < width ? name : name.slice(0, Math.max(0, Math.floor(width / 6) - 1));
  const y = (level + 1.5) * ROW;
  // Highlights our functions against those of libraries and Node.js.
  const fill = place.startsWith('src/') ? '#f2a154' : place.includes('node_modules') ? '#f6d186' : '#cfe3d4';
  const box = `<rect x="${x.toFixed(1)}" y="${y}" width="${width.toFixed(1)}" height="${ROW - 1}" fill="${fill}" stroke="#fff" stroke-width=".5"/>`;
  const tip = `<title>${escapeXml(`${name} ${place} ${(share * 100).toFixed(2)} %`)}</title>`;
  const text = label && width > 20 ? `<text x="${(x + 3).toFixed(1)}" y="${y + 12}">${escapeXml(label)}</text>` : '';
  return `<g>${tip}${box}${text}</g>`;
}

function ownTimes({ samples, timeDeltas }: CpuProfile): Map<number, number> {
  const times = new Map<number, number>();
  samples.forEach((id, index) => void times.set(id, (times.get(id) ?? 0) + (timeDeltas[index] ?? 0)));
  return times;
}

const nameOf = ({ callFrame }: ProfileNode): string => callFrame.functionName || '(anonymous)';

/** A function's source: below `src/` or `node_modules/`, or inside Node.js. */
function placeOf({ callFrame: { url, lineNumber } }: ProfileNode): string {
  const place = /(?:^|\/)((?:src|node_modules)\/.*)$/.exec(url)?.[1] ?? url;
  return place === '' ? '' : `${place}:${lineNumber + 1}`;
}

const escapeXml = (text: string): string => text.replace(/[<>&"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
