/** Assigns partitions to daemons: every daemon computes the same from the names of those present. */

/** The daemon of each of a topic's partitions, by index. Evenly spread; few move when a daemon comes or goes. */
export function sharesOf(topic: string, partitions: number, daemons: readonly string[]): string[] {
  const owners: string[] = new Array(partitions).fill(undefined);
  const loads = new Map(daemons.map((daemon) => [daemon, 0]));
  const least = Math.floor(partitions / daemons.length);
  // This many daemons get one more.
  let more = partitions % daemons.length;
  // Rendezvous hashing (https://en.wikipedia.org/wiki/Rendezvous_hashing), within these bounds.
  const bids = daemons.flatMap((daemon) =>
    Array.from({ length: partitions }, (_, index) => ({ daemon, index, bid: hash(`${daemon}\n${topic}\n${index}`) })),
  );
  for (const { daemon, index } of bids.toSorted((a, b) => b.bid - a.bid || (a.daemon < b.daemon ? -1 : 1))) {
    const load = loads.get(daemon) ?? 0;
    if (owners[index] !== undefined || load > least || (load === least && more === 0)) continue;
    if (load === least) more -= 1;
    owners[index] = daemon;
    loads.set(daemon, load + 1);
  }
  return owners;
}

/** FNV-1a with MurmurHash3's finalizer, so that names that differ in one letter get distant hashes. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) value = Math.imul(value ^ text.charCodeAt(index), 0x01000193);
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return (value ^ (value >>> 16)) >>> 0;
}
