// manifest.json as text -> MegatronFolder. A pull parser: nothing is allocated that the text does
// not hold, every key is known, every value is in its range.

#include <fmt/format.h>

#include <limits>

#include "core/base/arith.hpp"
#include "core/checkpoint/manifest.hpp"
#include "core/checkpoint/manifest_values.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/shard_index.hpp"
#include "core/io/utf8.hpp"

namespace bv::checkpoint {
namespace {

constexpr std::size_t kDimensionsMax = 64;

class ManifestReader : private ManifestValues {
 public:
  using ManifestValues::ManifestValues;

  Result<MegatronFolder> parse() {
    const std::size_t invalid = io::first_invalid_utf8(text_);
    const bool read = invalid == std::string_view::npos
                          ? document() && cursor_.end()
                          : cursor_.fault_at(invalid, "bytes that are not UTF-8");
    if (!read) {
      return error_ ? *std::move(error_) : syntax_error();
    }
    BV_CHECK(check_files());
    return std::move(out_);
  }

 private:
  // The document.

  bool document() {
    return fields("the manifest",
                  {{"schema", true, [this] { return schema(); }},
                   {"family", true, [this] { return text(out_.family); }},
                   {"rules", false, [this] { return print(out_.rules.emplace()); }},
                   {"layout", true, [this] { return layout(); }},
                   {"dtype", true, [this] { return dtype(); }},
                   {"spelling", true, [this] { return spelling(); }},
                   {"drop_mtp", true, [this] { return truth(out_.resolve.drop_mtp); }},
                   {"expert_orientation", true, [this] { return orientation(); }},
                   {"excluded", true, [this] { return excluded(); }},
                   {"settings", true, [this] { return settings(); }},
                   {"plan_digest", true, [this] { return digest(out_.plan_digest); }},
                   {"hf", true, [this] { return hf(); }},
                   {"files", true, [this] { return shards(); }}});
  }

  bool schema() {
    const std::size_t at = here();
    std::string found;
    if (!text(found)) {
      return false;
    }
    if (found == kManifestSchema) {
      return true;
    }
    const io::LineColumn place = io::line_column(text_, at);
    error_ =
        fail(Code::ManifestInvalid, fmt::format("{} has another schema", file_))
            .at(fmt::format("{}:{}:{}", file_, place.line, place.column))
            .pair(io::in_quotes(found), std::string(kManifestSchema))
            .fact(
                "bridge-megatron/1 has no fingerprints of config.json and of the plan: what it "
                "gives back cannot be vouched for")
            .advise("convert the HF directory again with this version");
    return fault(at, "another schema");
  }

  bool layout() {
    parallel::Layout& to = out_.layout;
    const auto size = [this](std::int64_t& number_) {
      return [this, &number_] { return number(number_, 1, parallel::kMaxSize); };
    };
    const auto maybe = [this](std::optional<std::int64_t>& number_) {
      return [this, &number_] { return number(number_.emplace(), 1, parallel::kMaxSize); };
    };
    return fields(
        "layout",
        {{"tp", true, size(to.tp)},
         {"pp", true, size(to.pp)},
         {"ep", true, size(to.ep)},
         {"etp", true, size(to.etp)},
         {"vpp", true, size(to.vpp)},
         {"cp", true, size(to.cp)},
         {"num_layers_in_first_pipeline_stage", false, maybe(to.first_stage_layers)},
         {"num_layers_in_last_pipeline_stage", false, maybe(to.last_stage_layers)},
         {"account_for_embedding_in_pipeline_split", false,
          [&] { return truth(to.account_for_embedding); }},
         {"account_for_loss_in_pipeline_split", false, [&] { return truth(to.account_for_loss); }},
         {"pipeline_model_parallel_layout", false, [&] { return text(to.pipeline_layout); }},
         {"make_vocab_size_divisible_by", false, maybe(to.vocab_divisor)}});
  }

  bool dtype() {
    const std::size_t at = here();
    std::string name;
    if (!text(name)) {
      return false;
    }
    auto policy = plan::dtype_policy(name);
    if (!policy) {
      return fault(at, fmt::format("{} is not one of preserve, float32, bfloat16, float16",
                                   io::in_quotes(name)));
    }
    out_.dtype = *policy;
    return true;
  }

  bool spelling() {
    std::string implementation;
    const bool read = fields(
        "spelling",
        {{"transformer_impl", true,
          [&] {
            return choice(implementation, {"transformer_engine", "local"});
          }},
         {"moe_grouped_gemm", true, [&] { return truth(out_.resolve.spelling.grouped_experts); }}});
    out_.resolve.spelling.transformer_engine = implementation == "transformer_engine";
    return read;
  }

  bool orientation() {
    std::string word;
    const bool read = choice(word, {"", "out_in", "in_out"});
    out_.resolve.expert_orientation =
        family::orientation_from(word).value_or(family::Orientation::ByShape);
    return read;
  }

  bool settings() {
    return cursor_.array([this] {
      const std::size_t at = here();
      auto& setting = out_.settings.emplace_back();
      std::size_t count = 0;
      const bool read = cursor_.array([&, this] {
        ++count;
        return count == 1   ? text(setting.first)
               : count == 2 ? text(setting.second)
                            : fault(here(), "expected the end of the list");
      });
      return read && (count == 2 || fault(at, "expected [path, value]"));
    });
  }

  bool hf() {
    const std::size_t begin = here();
    std::string headers;
    if (!fields("hf", {{"files", true, [this] { return hf_files(); }},
                       {"carried", true, [this] { return carried(); }},
                       {"left_out", true, [this] { return left_out(); }},
                       {"headers_digest", true, [&] { return digest(headers); }},
                       {"tensors", true, [this] { return tensors(); }}})) {
      return false;
    }
    for (const auto& [tensor, file] : out_.hf_file_of) {
      if (!out_.hf_metadata.contains(file)) {
        return fault(begin, fmt::format("hf.tensors puts {} in {}, which hf.files does not list",
                                        io::in_quotes(tensor), io::in_quotes(file)));
      }
    }
    for (const std::string& name : out_.left_out) {
      if (out_.hf_headers.contains(name)) {
        return fault(begin, fmt::format("{} is listed as a tensor and as one that is left out",
                                        io::in_quotes(name)));
      }
    }
    return headers == placed_headers_digest(out_) ||
           fault(begin, "hf.tensors is not what hf.headers_digest was made of");
  }

  bool hf_files() {
    return entries([this](std::string name, std::size_t position) {
      const std::string_view wrong = path_fault(name);
      const auto checked = io::checked_shard_name(name, file_);
      if (!wrong.empty() || !checked || *checked != name) {
        return fault(position, fmt::format("the weights file {} {}", io::in_quotes(name),
                                           wrong.empty() ? "is not a plain name that ends in "
                                                           ".safetensors"
                                                         : wrong));
      }
      auto& metadata = out_.hf_metadata[std::move(name)];
      return entries(
          [&, this](std::string key, std::size_t) { return text(metadata[std::move(key)]); });
    });
  }

  bool carried() {
    return entries([this](std::string name, std::size_t position) {
      const std::string_view wrong = carried_fault(name);
      if (!wrong.empty()) {
        return fault(position, fmt::format("the carried file {} {}", io::in_quotes(name), wrong));
      }
      return print(out_.carried[std::move(name)]);
    });
  }

  bool excluded() {
    return cursor_.array([this] {
      const std::size_t at = here();
      std::string name;
      if (!text(name)) {
        return false;
      }
      const std::string shown = io::in_quotes(name);
      return out_.resolve.left_out.insert(std::move(name)).second ||
             fault(at, fmt::format("{} appears twice", shown));
    });
  }

  bool left_out() {
    return cursor_.array([this] {
      const std::size_t at = here();
      std::string name;
      if (!text(name)) {
        return false;
      }
      if (!out_.left_out.empty() && name <= out_.left_out.back()) {
        return fault(at, fmt::format("{} comes after {}: the list is sorted, each name once",
                                     io::in_quotes(name), io::in_quotes(out_.left_out.back())));
      }
      out_.left_out.push_back(std::move(name));
      return true;
    });
  }

  /// name: [dtype, shape, file]
  bool tensors() {
    return entries([this](std::string name, std::size_t position) {
      TensorSpec spec;
      spec.name = name;
      std::string file;
      std::size_t count = 0;
      const bool read = cursor_.array([&, this] {
        ++count;
        return count == 1   ? tensor_dtype(spec.dtype)
               : count == 2 ? shape(spec.shape)
               : count == 3 ? text(file)
                            : fault(here(), "expected the end of the list");
      });
      if (!read) {
        return false;
      }
      if (count != 3) {
        return fault(position, "expected [dtype, shape, file]");
      }
      out_.hf_file_of[name] = std::move(file);
      out_.hf_headers[std::move(name)] = std::move(spec);
      return true;
    });
  }

  bool tensor_dtype(DType& out) {
    const std::size_t at = here();
    std::string name;
    if (!text(name)) {
      return false;
    }
    const auto known = dtype_from_name(name);
    out = known.value_or(DType::BF16);
    return known || fault(at, fmt::format("{} is not an element type", io::in_quotes(name)));
  }

  bool shape(Shape& out) {
    const std::size_t at = here();
    const bool read = cursor_.array([&, this] {
      return out.size() < kDimensionsMax
                 ? number(out.emplace_back(), 0, std::numeric_limits<std::int64_t>::max())
                 : fault(here(), fmt::format("more than {} dimensions", kDimensionsMax));
    });
    const auto elements = element_count(out);
    return read && ((elements && checked_mul(*elements, 64)) ||
                    fault(at, "a shape with more bits than 63 bits count"));
  }

  /// shard file: {tensor: fingerprint}
  bool shards() {
    return entries([this](std::string name, std::size_t position) {
      const std::string_view stem = std::string_view(name).substr(0, name.rfind('.'));
      if (!name.ends_with(".safetensors") || !parallel::shard_from_name(stem)) {
        return fault(position,
                     fmt::format("{} is not the name of a shard file", io::in_quotes(name)));
      }
      auto& tensors_ = out_.digests[std::move(name)];
      return entries([&, this](std::string tensor, std::size_t) {
        return digest(tensors_[std::move(tensor)]);
      });
    });
  }

  // Files of the HF side are made by these names.
  Status check_files() {
    std::vector<std::string> weights;
    std::vector<std::string> carried_names;
    for (const auto& [name, metadata] : out_.hf_metadata) {
      weights.push_back(name);
    }
    for (const auto& [name, known] : out_.carried) {
      carried_names.push_back(name);
    }
    BV_CHECK(check_disjoint(weights, carried_names, file_));
    if (!out_.carried.contains("config.json")) {
      return fail(Code::ManifestInvalid, fmt::format("{} carries no config.json", file_))
          .at(file_)
          .advise(kAgain);
    }
    return Done{};
  }

  MegatronFolder out_;
};

}  // namespace

Result<MegatronFolder> parse_manifest(std::string_view text, const std::string& file) {
  return ManifestReader(text, file).parse();
}

}  // namespace bv::checkpoint
