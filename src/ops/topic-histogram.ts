/**
 * A histogram of prom-client's, by topic, that counts in place. Its own `observe` finds the labels' series anew for each
 * value, which costs 0.3 µs; that is much where each notification has a value.
 */
import { Histogram, type HistogramConfiguration } from 'prom-client';

/** What was observed of one topic. */
export class Series {
  readonly #bounds: readonly number[];
  /** How many values each bucket has, without those of the buckets below it; the last is for values above all bounds. */
  readonly #counts: Float64Array;
  #sum = 0;

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = new Float64Array(bounds.length + 1);
  }

  observe(value: number): void {
    const bounds = this.#bounds;
    let bucket = 0;
    while (bucket < bounds.length && value > (bounds[bucket] as number)) bucket++;
    this.#counts[bucket]! += 1;
    this.#sum += value;
  }

  /** As prom-client shows a histogram, of whichever name. */
  show(name: string, sharedLabels: Readonly<Record<string, string>>): object[] {
    let count = 0;
    const buckets = [...this.#counts].map((more, bucket) => {
      count += more;
      const labels = { le: this.#bounds[bucket] ?? '+Inf' };
      return { metricName: `${name}_bucket`, labels, sharedLabels, value: count };
    });
    return [
      ...buckets,
      { metricName: `${name}_sum`, labels: {}, sharedLabels, value: this.#sum },
      { metricName: `${name}_count`, labels: {}, sharedLabels, value: count },
    ];
  }
}

type Settings = Pick<HistogramConfiguration<'topic'>, 'name' | 'help' | 'registers'> & { readonly buckets: number[] };

export class TopicHistogram extends Histogram<'topic'> {
  readonly #settings: Settings;
  readonly #series = new Map<string, Series>();

  constructor(settings: Settings) {
    super({ ...settings, labelNames: ['topic'] });
    this.#settings = settings;
  }

  /** What counts the values of a topic. */
  of(topic: string): Series {
    const known = this.#series.get(topic);
    if (known) return known;
    const series = new Series(this.#settings.buckets);
    this.#series.set(topic, series);
    return series;
  }

  override reset(): void {
    super.reset();
    // Its constructor calls this too, before there is anything.
    if (#series in this) this.#series.clear();
  }

  /** What prom-client makes both its text and its objects of. */
  async getForPromString(): Promise<object> {
    const { name, help } = this.#settings;
    const values = [...this.#series].flatMap(([topic, series]) => series.show(name, { topic }));
    return { name, help, type: 'histogram', aggregator: 'sum', values };
  }
}
