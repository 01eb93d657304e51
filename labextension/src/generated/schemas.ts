/** Generated from `jshm/server/openapi.yaml` by `npm run build:types`. */
export const schemas = {
  "Error": {
    "type": "object",
    "required": [
      "reason",
      "message",
      "remedies"
    ],
    "properties": {
      "reason": {
        "type": "string",
        "enum": [
          "missing",
          "refused",
          "store",
          "forbidden"
        ]
      },
      "message": {
        "type": "string"
      },
      "remedies": {
        "type": "array",
        "items": {
          "$ref": "#/components/schemas/Remedy"
        }
      }
    }
  },
  "Remedy": {
    "type": "object",
    "required": [
      "action",
      "names",
      "options",
      "purpose"
    ],
    "properties": {
      "action": {
        "type": "string",
        "enum": [
          "publish",
          "attach",
          "detach",
          "release",
          "list",
          "info",
          "check",
          "gc"
        ]
      },
      "names": {
        "type": "array",
        "items": {
          "type": "string"
        }
      },
      "options": {
        "type": "object",
        "additionalProperties": {
          "oneOf": [
            {
              "type": "string"
            },
            {
              "type": "boolean"
            }
          ]
        }
      },
      "purpose": {
        "type": "string"
      }
    }
  },
  "Process": {
    "type": "object",
    "required": [
      "label",
      "path",
      "alive",
      "here"
    ],
    "properties": {
      "label": {
        "type": "string"
      },
      "path": {
        "type": "string"
      },
      "alive": {
        "type": "boolean"
      },
      "here": {
        "type": "boolean"
      }
    }
  },
  "Mode": {
    "type": "string",
    "enum": [
      "r",
      "r+",
      "c"
    ]
  },
  "Holder": {
    "allOf": [
      {
        "$ref": "#/components/schemas/Process"
      },
      {
        "type": "object",
        "required": [
          "mode",
          "pid"
        ],
        "properties": {
          "mode": {
            "$ref": "#/components/schemas/Mode"
          },
          "pid": {
            "type": "integer"
          }
        }
      }
    ]
  },
  "OldVersion": {
    "type": "object",
    "required": [
      "version",
      "nbytes",
      "summary",
      "holders"
    ],
    "properties": {
      "version": {
        "type": "integer"
      },
      "nbytes": {
        "type": "integer"
      },
      "summary": {
        "type": "string"
      },
      "holders": {
        "type": "array",
        "items": {
          "$ref": "#/components/schemas/Holder"
        }
      }
    }
  },
  "Row": {
    "type": "object",
    "required": [
      "name",
      "version",
      "state",
      "kind",
      "summary",
      "dtype",
      "shape",
      "nbytes",
      "publisher",
      "group",
      "created",
      "note",
      "keep",
      "writable",
      "overflow",
      "onlyCopy",
      "keeps",
      "lifetime",
      "holders",
      "older"
    ],
    "properties": {
      "name": {
        "type": "string"
      },
      "version": {
        "type": "integer"
      },
      "state": {
        "type": "string",
        "enum": [
          "current",
          "released"
        ]
      },
      "kind": {
        "type": "string"
      },
      "summary": {
        "type": "string"
      },
      "dtype": {
        "type": "string"
      },
      "shape": {
        "type": "array",
        "items": {
          "type": "integer"
        }
      },
      "nbytes": {
        "type": "integer"
      },
      "publisher": {
        "$ref": "#/components/schemas/Process"
      },
      "group": {
        "type": "string"
      },
      "created": {
        "type": "number"
      },
      "note": {
        "type": "string"
      },
      "keep": {
        "type": "boolean"
      },
      "writable": {
        "type": "boolean"
      },
      "overflow": {
        "type": "boolean"
      },
      "onlyCopy": {
        "type": "boolean"
      },
      "keeps": {
        "type": "integer"
      },
      "lifetime": {
        "type": "string",
        "enum": [
          "process",
          "run",
          "server",
          "kept"
        ]
      },
      "holders": {
        "type": "array",
        "items": {
          "$ref": "#/components/schemas/Holder"
        }
      },
      "older": {
        "type": "array",
        "items": {
          "$ref": "#/components/schemas/OldVersion"
        }
      }
    }
  },
  "Details": {
    "allOf": [
      {
        "$ref": "#/components/schemas/Row"
      },
      {
        "type": "object",
        "required": [
          "order",
          "doc",
          "place",
          "python",
          "modules",
          "shared",
          "copied",
          "columns",
          "references",
          "together"
        ],
        "properties": {
          "order": {
            "type": "string",
            "enum": [
              "C",
              "F"
            ]
          },
          "doc": {
            "type": "string"
          },
          "place": {
            "type": "string"
          },
          "python": {
            "type": "string"
          },
          "modules": {
            "type": "object",
            "additionalProperties": {
              "type": "string"
            }
          },
          "shared": {
            "type": "integer"
          },
          "copied": {
            "type": "integer"
          },
          "columns": {
            "type": "array",
            "items": {
              "type": "string"
            }
          },
          "references": {
            "type": "object",
            "additionalProperties": {
              "type": "integer"
            }
          },
          "together": {
            "type": "array",
            "items": {
              "type": "string"
            }
          }
        }
      }
    ]
  },
  "Group": {
    "type": "object",
    "required": [
      "id",
      "publisher",
      "count",
      "nbytes"
    ],
    "properties": {
      "id": {
        "type": "string"
      },
      "publisher": {
        "$ref": "#/components/schemas/Process"
      },
      "count": {
        "type": "integer"
      },
      "nbytes": {
        "type": "integer"
      }
    }
  },
  "Notice": {
    "type": "object",
    "required": [
      "level",
      "text"
    ],
    "properties": {
      "level": {
        "type": "string",
        "enum": [
          "info",
          "warning",
          "error"
        ]
      },
      "text": {
        "type": "string"
      }
    }
  },
  "Summary": {
    "type": "object",
    "required": [
      "where",
      "names",
      "used",
      "inUse",
      "idle",
      "old",
      "unnamed",
      "spares",
      "idleNames",
      "expired",
      "free",
      "capacity",
      "overflow",
      "notices"
    ],
    "properties": {
      "where": {
        "type": "string"
      },
      "names": {
        "type": "integer"
      },
      "used": {
        "type": "integer"
      },
      "inUse": {
        "type": "integer"
      },
      "idle": {
        "type": "integer"
      },
      "old": {
        "type": "integer"
      },
      "unnamed": {
        "type": "integer"
      },
      "spares": {
        "type": "integer"
      },
      "idleNames": {
        "type": "integer"
      },
      "expired": {
        "type": "integer"
      },
      "free": {
        "type": "integer"
      },
      "capacity": {
        "type": "integer"
      },
      "overflow": {
        "type": "integer"
      },
      "notices": {
        "type": "array",
        "items": {
          "$ref": "#/components/schemas/Notice"
        }
      }
    }
  },
  "SortKey": {
    "type": "string",
    "enum": [
      "name",
      "size",
      "age",
      "type",
      "holders"
    ],
    "default": "name"
  },
  "Page": {
    "type": "object",
    "required": [
      "state",
      "total",
      "offset",
      "rows",
      "groups",
      "summary"
    ],
    "properties": {
      "state": {
        "type": "string"
      },
      "total": {
        "type": "integer"
      },
      "offset": {
        "type": "integer"
      },
      "rows": {
        "type": "array",
        "items": {
          "$ref": "#/components/schemas/Row"
        }
      },
      "groups": {
        "type": "array",
        "items": {
          "$ref": "#/components/schemas/Group"
        }
      },
      "summary": {
        "$ref": "#/components/schemas/Summary"
      }
    }
  },
  "Released": {
    "type": "object",
    "required": [
      "name",
      "nbytes",
      "freed",
      "heldBy",
      "neededBy"
    ],
    "properties": {
      "name": {
        "type": "string"
      },
      "nbytes": {
        "type": "integer"
      },
      "freed": {
        "type": "integer"
      },
      "heldBy": {
        "type": "array",
        "items": {
          "type": "string"
        }
      },
      "neededBy": {
        "type": "array",
        "items": {
          "type": "string"
        }
      }
    }
  },
  "Stats": {
    "nullable": true,
    "type": "object",
    "required": [
      "min",
      "max",
      "mean",
      "nan",
      "count",
      "total",
      "exact"
    ],
    "properties": {
      "min": {
        "type": "number",
        "nullable": true
      },
      "max": {
        "type": "number",
        "nullable": true
      },
      "mean": {
        "type": "number",
        "nullable": true
      },
      "nan": {
        "type": "integer"
      },
      "count": {
        "type": "integer"
      },
      "total": {
        "type": "integer"
      },
      "exact": {
        "type": "boolean"
      },
      "infinite": {
        "type": "integer"
      },
      "of": {
        "type": "string",
        "enum": [
          "magnitude"
        ]
      }
    }
  },
  "Histogram": {
    "nullable": true,
    "type": "object",
    "required": [
      "counts",
      "low",
      "high"
    ],
    "properties": {
      "counts": {
        "type": "array",
        "items": {
          "type": "integer"
        }
      },
      "low": {
        "type": "number"
      },
      "high": {
        "type": "number"
      }
    }
  },
  "Preview": {
    "oneOf": [
      {
        "$ref": "#/components/schemas/LinePreview"
      },
      {
        "$ref": "#/components/schemas/HeatmapPreview"
      },
      {
        "$ref": "#/components/schemas/ImagePreview"
      },
      {
        "$ref": "#/components/schemas/TablePreview"
      },
      {
        "$ref": "#/components/schemas/TextPreview"
      },
      {
        "$ref": "#/components/schemas/NoPreview"
      }
    ]
  },
  "LinePreview": {
    "type": "object",
    "required": [
      "type",
      "low",
      "high",
      "histogram",
      "stats"
    ],
    "properties": {
      "type": {
        "type": "string",
        "enum": [
          "line"
        ]
      },
      "low": {
        "type": "array",
        "items": {
          "type": "number",
          "nullable": true
        }
      },
      "high": {
        "type": "array",
        "items": {
          "type": "number",
          "nullable": true
        }
      },
      "histogram": {
        "$ref": "#/components/schemas/Histogram"
      },
      "stats": {
        "$ref": "#/components/schemas/Stats"
      }
    }
  },
  "HeatmapPreview": {
    "type": "object",
    "required": [
      "type",
      "width",
      "height",
      "data",
      "low",
      "high",
      "slice",
      "stats"
    ],
    "properties": {
      "type": {
        "type": "string",
        "enum": [
          "heatmap"
        ]
      },
      "width": {
        "type": "integer"
      },
      "height": {
        "type": "integer"
      },
      "data": {
        "type": "string"
      },
      "low": {
        "type": "number"
      },
      "high": {
        "type": "number"
      },
      "slice": {
        "type": "string"
      },
      "stats": {
        "$ref": "#/components/schemas/Stats"
      }
    }
  },
  "ImagePreview": {
    "type": "object",
    "required": [
      "type",
      "width",
      "height",
      "data",
      "slice",
      "stats"
    ],
    "properties": {
      "type": {
        "type": "string",
        "enum": [
          "image"
        ]
      },
      "width": {
        "type": "integer"
      },
      "height": {
        "type": "integer"
      },
      "data": {
        "type": "string"
      },
      "slice": {
        "type": "string"
      },
      "stats": {
        "$ref": "#/components/schemas/Stats"
      }
    }
  },
  "TablePreview": {
    "type": "object",
    "required": [
      "type",
      "columns",
      "rows",
      "total",
      "stats"
    ],
    "properties": {
      "type": {
        "type": "string",
        "enum": [
          "table"
        ]
      },
      "columns": {
        "type": "array",
        "items": {
          "type": "string"
        }
      },
      "rows": {
        "type": "array",
        "items": {
          "type": "array",
          "items": {
            "type": "string"
          }
        }
      },
      "total": {
        "type": "integer"
      },
      "stats": {
        "$ref": "#/components/schemas/Stats"
      }
    }
  },
  "TextPreview": {
    "type": "object",
    "required": [
      "type",
      "text",
      "truncated",
      "stats"
    ],
    "properties": {
      "type": {
        "type": "string",
        "enum": [
          "source",
          "text"
        ]
      },
      "text": {
        "type": "string"
      },
      "truncated": {
        "type": "boolean"
      },
      "stats": {
        "$ref": "#/components/schemas/Stats"
      }
    }
  },
  "NoPreview": {
    "type": "object",
    "required": [
      "type",
      "text",
      "stats"
    ],
    "properties": {
      "type": {
        "type": "string",
        "enum": [
          "none"
        ]
      },
      "text": {
        "type": "string"
      },
      "stats": {
        "$ref": "#/components/schemas/Stats"
      }
    }
  }
};
