/** Generated from `jshm/server/openapi.yaml` by `npm run build:types`. */
export interface components {
    schemas: {
        Error: {
            /**
             * @description `missing`: no such name (any more). `store`: the store cannot be used. `refused`: the message says why
             * @enum {string}
             */
            reason: "missing" | "refused" | "store" | "forbidden";
            /** @description What is wrong, without the remedies */
            message: string;
            /** @description The most useful one first */
            remedies: components["schemas"]["Remedy"][];
        };
        /** @description A jshm operation that solves a problem, or a part of it */
        Remedy: {
            /** @enum {string} */
            action: "publish" | "attach" | "detach" | "release" | "list" | "info" | "check" | "gc";
            /** @description What it applies to */
            names: string[];
            /** @description By their names in the Python call: `force`, `mode` */
            options: {
                [key: string]: string | boolean;
            };
            /** @description What it achieves, at the start of a sentence; may be empty */
            purpose: string;
        };
        Process: {
            /** @description What people call it: the name of its notebook or script */
            label: string;
            /** @description The path under which Jupyter opens its notebook now; empty if it cannot */
            path: string;
            /** @description Whether it runs. A publisher also counts as alive after its kernel was restarted */
            alive: boolean;
            /** @description Whether it is the kernel of this widget; never in the panel */
            here: boolean;
        };
        /** @enum {string} */
        Mode: "r" | "r+" | "c";
        /** @description A process that has a version mapped */
        Holder: components["schemas"]["Process"] & {
            mode: components["schemas"]["Mode"];
            pid: number;
        };
        /** @description A version that is not the newest of its name, but takes memory because a process holds it */
        OldVersion: {
            version: number;
            nbytes: number;
            summary: string;
            holders: components["schemas"]["Holder"][];
        };
        /** @description One name */
        Row: {
            name: string;
            /** @description The newest version. Of a released name, the newest that a process still holds */
            version: number;
            /** @enum {string} */
            state: "current" | "released";
            kind: string;
            /** @description What it is, for people: `float64 (1000, 1000)`, `function train(X, lr=0.1)` */
            summary: string;
            /** @description Of an array; else empty */
            dtype: string;
            shape: number[];
            nbytes: number;
            publisher: components["schemas"]["Process"];
            /** @description Id of the row's group: the same for all rows of one notebook */
            group: string;
            created: number;
            note: string;
            keep: boolean;
            /** @description LIVE: others may attach it writable, so it may change at any time */
            writable: boolean;
            /** @description On disk, because shared memory was full */
            overflow: boolean;
            /** @description No process holds it and its publisher has ended: a release loses the data */
            onlyCopy: boolean;
            /** @description Bytes without a name that stay in memory because this refers to them */
            keeps: number;
            /** @enum {string} */
            lifetime: "process" | "run" | "server" | "kept";
            holders: components["schemas"]["Holder"][];
            older: components["schemas"]["OldVersion"][];
        };
        /** @description All that is known of one name */
        Details: components["schemas"]["Row"] & {
            /** @enum {string} */
            order: "C" | "F";
            /** @description First line of an object's docstring */
            doc: string;
            /** @description Where an object was defined: `In[3]`, `utils.py` */
            place: string;
            python: string;
            /** @description Packages that an object needs, and their versions at the publisher */
            modules: {
                [key: string]: string;
            };
            /** @description Bytes of an object that are shared */
            shared: number;
            /** @description Bytes of an object that each attach copies */
            copied: number;
            /** @description Columns of a table that are copied, because they hold Python objects */
            columns: string[];
            /** @description What it refers to, by name and version, and its bytes */
            references: {
                [key: string]: number;
            };
            /** @description Names that share state with it, if they are attached together */
            together: string[];
        };
        /** @description The rows of one notebook, which follow one another in a grouped list */
        Group: {
            id: string;
            publisher: components["schemas"]["Process"];
            count: number;
            nbytes: number;
        };
        /** @description Something that the user should know about the whole store */
        Notice: {
            /** @enum {string} */
            level: "info" | "warning" | "error";
            text: string;
        };
        /** @description Sums over the whole store. `inUse`, `idle`, `old` and `unnamed` add up to `used` */
        Summary: {
            /** @description The directory. It must not appear in saved notebooks */
            where: string;
            names: number;
            used: number;
            /** @description Newest versions that a process holds */
            inUse: number;
            /** @description Newest versions that no process holds. They may be the only copy */
            idle: number;
            /** @description Old and released versions */
            old: number;
            /** @description Memory without a name: allocated and not published, or only referred to */
            unnamed: number;
            /** @description Memory that kernels keep for their next versions, and give back when memory is needed */
            spares: number;
            idleNames: number;
            /** @description Versions whose lifetime has run out: the next write frees them */
            expired: number;
            free: number;
            /** @description Size of the file system. Memory that other programs use makes `used + spares + free` smaller */
            capacity: number;
            /** @description Bytes on disk, because shared memory was full. Not a part of `used` */
            overflow: number;
            notices: components["schemas"]["Notice"][];
        };
        /**
         * @default name
         * @enum {string}
         */
        SortKey: "name" | "size" | "age" | "type" | "holders";
        /** @description A part of the list. `rows[i]` is row `offset + i` of the whole list */
        Page: {
            /** @description Changes with every change of the list. Parts with different states do not fit together */
            state: string;
            total: number;
            offset: number;
            rows: components["schemas"]["Row"][];
            /** @description All groups, in the order of their rows; empty if the list is not grouped */
            groups: components["schemas"]["Group"][];
            summary: components["schemas"]["Summary"];
        };
        /** @description The result of a release */
        Released: {
            name: string;
            nbytes: number;
            freed: number;
            /** @description Processes that still have the rest mapped */
            heldBy: string[];
            /** @description Objects that refer to the rest */
            neededBy: string[];
        };
        /** @description Statistics of a bounded sample, or of all values if `exact` */
        Stats: {
            min: number | null;
            max: number | null;
            mean: number | null;
            nan: number;
            /** @description Number of values in the sample */
            count: number;
            /** @description Number of all values */
            total: number;
            exact: boolean;
            /** @description Infinite values in the sample, if any. Minimum, maximum and mean are of the finite ones */
            infinite?: number;
            /**
             * @description Minimum, maximum and mean of complex numbers are of the magnitude
             * @enum {string}
             */
            of?: "magnitude";
        } | null;
        Histogram: {
            counts: number[];
            low: number;
            high: number;
        } | null;
        /** @description A preview of some data; at most about 100 kB, however large the data is */
        Preview: components["schemas"]["LinePreview"] | components["schemas"]["HeatmapPreview"] | components["schemas"]["ImagePreview"] | components["schemas"]["TablePreview"] | components["schemas"]["TextPreview"] | components["schemas"]["NoPreview"];
        /** @description One-dimensional numbers, as the lowest and highest sampled number of each of equal stretches */
        LinePreview: {
            /** @enum {string} */
            type: "line";
            low: (number | null)[];
            high: (number | null)[];
            histogram: components["schemas"]["Histogram"];
            stats: components["schemas"]["Stats"];
        };
        /** @description Two-dimensional numbers */
        HeatmapPreview: {
            /** @enum {string} */
            type: "heatmap";
            width: number;
            height: number;
            /** @description Base64 of one byte for each cell, row by row: 0 (`low`) to 254 (`high`), 255 for NaN */
            data: string;
            low: number;
            high: number;
            /** @description The part of data with more than two dimensions: `[0, :, :]`; else empty */
            slice: string;
            stats: components["schemas"]["Stats"];
        };
        /** @description A picture, H×W×3 or H×W×4 of uint8 */
        ImagePreview: {
            /** @enum {string} */
            type: "image";
            width: number;
            height: number;
            /** @description Base64 of four bytes (RGBA) for each pixel, row by row */
            data: string;
            slice: string;
            stats: components["schemas"]["Stats"];
        };
        TablePreview: {
            /** @enum {string} */
            type: "table";
            columns: string[];
            rows: string[][];
            total: number;
            stats: components["schemas"]["Stats"];
        };
        TextPreview: {
            /** @enum {string} */
            type: "source" | "text";
            text: string;
            truncated: boolean;
            stats: components["schemas"]["Stats"];
        };
        /** @description There is no preview; the text says why */
        NoPreview: {
            /** @enum {string} */
            type: "none";
            text: string;
            stats: components["schemas"]["Stats"];
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export type operations = Record<string, never>;
