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
    BV_CHECK(read([this] { return document(); }));
    BV_CHECK(check_files());
    return std::move(out_);
  }

  Result<MegatronFolder> parse_choices() {
    BV_CHECK(read([this] { return record(); }));
    return std::move(out_);
  }

 private:
  template <class Document>
  Status read(Document&& document_) {
    const std::size_t invalid = io::first_invalid_utf8(text_);
    const bool done = invalid == std::string_view::npos
                          ? document_() && cursor_.end()
                          : cursor_.fault_at(invalid, "bytes that are not UTF-8");
    if (done) {
      return Done{};
    }
    return error_ ? *std::move(error_) : syntax_error();
  }

  // The document.

  bool document() {
    std::vector<Field> list = choices(kManifestSchema);
    list.insert(list.end(), {{"layout", true, [this] { return layout(); }},
                             {"plan_digest", true, [this] { return digest(out_.plan_digest); }},
                             {"hf", true, [this] { return hf(); }},
                             {"quantised", false, [this] { return quantised(); }},
                             {"files", true, [this] { return shards(); }}});
    return fields("the manifest", list);
  }

  bool record() { return fields("the record", choices(kRecordSchema)); }

  /// What manifest and record both say.
  std::vector<Field> choices(std::string_view schema_) {
    return {{"schema", true, [this, schema_] { return schema(schema_); }},
            {"family", true, [this] { return text(out_.family); }},
            {"rules", false, [this] { return print(out_.rules.emplace()); }},
            {"dtype", true, [this] { return dtype(); }},
            {"spelling", true, [this] { return spelling(); }},
            {"drop_mtp", true, [this] { return truth(out_.resolve.drop_mtp); }},
            {"expert_orientation", true, [this] { return orientation(); }},
            {"excluded", true, [this] { return excluded(); }},
            {"settings", true, [this] { return settings(); }},
            {"adapter", false, [this] { return adapter(out_.adapter.emplace()); }}};
  }

  bool adapter(MergedAdapter& out) {
    return fields("adapter", {{"digest", true, [&, this] { return digest(out.digest); }},
                              {"untied", true, [&, this] { return truth(out.untied); }}});
  }

  bool schema(std::string_view wanted) {
    const std::size_t at = here();
    std::string found;
    if (!text(found)) {
      return false;
    }
    if (found == wanted) {
      return true;
    }
    const io::LineColumn place = io::line_column(text_, at);
    Error error = fail(Code::ManifestInvalid, fmt::format("{} has another schema", file_))
                      .at(fmt::format("{}:{}:{}", file_, place.line, place.column))
                      .pair(io::in_quotes(found), std::string(wanted))
                      .advise("convert the HF directory again with this version");
    if (wanted == kManifestSchema) {
      error.facts.emplace_back(
          "bridge-megatron/1 has no fingerprints of config.json and of the plan: what it gives "
          "back cannot be vouched for");
    }
    error_ = std::move(error);
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
    const auto tensors_ = [this] { return tensors(out_.hf_headers, out_.hf_file_of, nullptr); };
    if (!fields("hf", {{"files", true, [this] { return hf_files(out_.hf_metadata); }},
                       {"carried", true, [this] { return carried(out_.carried); }},
                       {"left_out", true, [this] { return left_out(); }},
                       {"headers_digest", true, [&] { return digest(headers); }},
                       {"tensors", true, tensors_}}) ||
        !placed("hf", begin, out_.hf_file_of, out_.hf_metadata)) {
      return false;
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

  bool quantised() {
    const std::size_t begin = here();
    QuantisedSide& to = out_.quantised.emplace();
    std::string headers;
    const auto tensors_ = [this, &to] { return tensors(to.headers, to.file_of, &to.digests); };
    if (!fields("quantised", {{"files", true, [&, this] { return hf_files(to.metadata); }},
                              {"carried", true, [&, this] { return carried(to.carried); }},
                              {"headers_digest", true, [&] { return digest(headers); }},
                              {"tensors", true, tensors_}}) ||
        !placed("quantised", begin, to.file_of, to.metadata)) {
      return false;
    }
    if (to.headers.empty() || !to.carried.contains("config.json")) {
      return fault(begin, to.headers.empty() ? "quantised lists no tensor"
                                             : "quantised carries no config.json");
    }
    return headers == placed_headers_digest(to) ||
           fault(begin, "quantised.tensors is not what quantised.headers_digest was made of");
  }

  using FileOf = std::map<std::string, std::string>;
  using Metadata = std::map<std::string, std::map<std::string, std::string>>;

  /// Every tensor stands in a file that is listed.
  bool placed(std::string_view where, std::size_t begin, const FileOf& file_of,
              const Metadata& files) {
    for (const auto& [tensor, file] : file_of) {
      if (!files.contains(file)) {
        return fault(
            begin, fmt::format("{0}.tensors puts {1} in {2}, which {0}.files does not list", where,
                               io::in_quotes(tensor), io::in_quotes(file)));
      }
    }
    return true;
  }

  bool hf_files(Metadata& out) {
    return entries([this, &out](std::string name, std::size_t position) {
      const std::string_view wrong = path_fault(name);
      const auto checked = io::checked_shard_name(name, file_);
      if (!wrong.empty() || !checked || *checked != name) {
        return fault(position, fmt::format("the weights file {} {}", io::in_quotes(name),
                                           wrong.empty() ? "is not a plain name that ends in "
                                                           ".safetensors"
                                                         : wrong));
      }
      auto& metadata = out[std::move(name)];
      return entries(
          [&, this](std::string key, std::size_t) { return text(metadata[std::move(key)]); });
    });
  }

  bool carried(std::map<std::string, io::FilePrint>& out) {
    return entries([this, &out](std::string name, std::size_t position) {
      const std::string_view wrong = carried_fault(name);
      if (!wrong.empty()) {
        return fault(position, fmt::format("the carried file {} {}", io::in_quotes(name), wrong));
      }
      return print(out[std::move(name)]);
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

  /// name: [dtype, shape, file], with `digests` also a fingerprint
  bool tensors(Headers& headers, FileOf& file_of, std::map<std::string, std::string>* digests) {
    return entries([=, this, &headers, &file_of](std::string name, std::size_t position) {
      TensorSpec spec;
      spec.name = name;
      std::string file;
      std::size_t count = 0;
      const std::size_t wanted = digests == nullptr ? 3 : 4;
      const bool read = cursor_.array([&, this] {
        ++count;
        return count == 1        ? tensor_dtype(spec.dtype)
               : count == 2      ? shape(spec.shape)
               : count == 3      ? text(file)
               : count == wanted ? digest((*digests)[name])
                                 : fault(here(), "expected the end of the list");
      });
      if (!read) {
        return false;
      }
      if (count != wanted) {
        return fault(position, digests == nullptr ? "expected [dtype, shape, file]"
                                                  : "expected [dtype, shape, file, fingerprint]");
      }
      file_of[name] = std::move(file);
      headers[std::move(name)] = std::move(spec);
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
    const auto names_of = [](const auto& files) {
      std::vector<std::string> out;
      for (const auto& [name, known] : files) {
        out.push_back(name);
      }
      return out;
    };
    BV_CHECK(check_disjoint(names_of(out_.hf_metadata), names_of(out_.carried), file_));
    if (out_.quantised) {
      std::map<std::string, io::FilePrint> all = out_.carried;
      all.insert(out_.quantised->carried.begin(), out_.quantised->carried.end());
      BV_CHECK(check_disjoint(names_of(out_.quantised->metadata), names_of(all), file_));
    }
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

Result<MegatronFolder> parse_record(std::string_view text, const std::string& file) {
  return ManifestReader(text, file).parse_choices();
}

}  // namespace bv::checkpoint
