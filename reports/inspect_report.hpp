#pragma once
// What the headers of a checkpoint say, as `inspect` shows them.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"
#include "core/base/tensor_spec.hpp"
#include "reports/style.hpp"

namespace bv::reports {

/// One tensor, as a view of headers that outlive the report.
struct InspectedTensor {
  const TensorSpec* spec = nullptr;
  std::uint64_t bytes = 0;
  std::string_view shard;
};

/// What a strict reader of the format would refuse.
struct FormatFinding {
  std::string file, what;
  Code code = Code::Assertion;
};

/// A shard that the index names and that is not there, with the tensors it should hold.
struct MissingShard {
  std::string file;
  std::vector<std::string> tensors;
};

struct QuantisedSource {
  struct Scheme {
    std::string scheme;
    std::size_t weights = 0;
    std::string example;  // name of a tensor
  };
  std::vector<Scheme> schemes;
  std::int64_t tensors = 0;  // weights with their companions
  std::string config;        // what config.json says of it; may be empty
  std::string summary;       // one line
};

struct InspectReport {
  std::string reference;                 // as it was asked for
  std::string form;                      // "HF folder", "safetensors file", ...
  std::vector<InspectedTensor> tensors;  // by shard and name for a Megatron folder, else by name
  std::vector<FormatFinding> findings;
  std::vector<MissingShard> missing;
  std::size_t files = 0;
  std::string beside;  // what a torch_dist checkpoint holds beside the weights; may be empty
  std::optional<QuantisedSource> quantised;
};

/// Takes text as it is made: a header may hold millions of tensors.
using TextSink = std::function<void(std::string_view)>;

/// One object, schema bridge-inspect/1.
void inspect_json(const InspectReport& seen, const TextSink& out);
/// One line a tensor: name, dtype, shape, bytes, shard. Names are escaped.
void inspect_plain(const InspectReport& seen, const TextSink& out);
/// One line a tensor, then the totals and the findings; the totals alone when `brief`.
void inspect_text(const InspectReport& seen, const TextStyle& style, bool brief,
                  const TextSink& out);

}  // namespace bv::reports
