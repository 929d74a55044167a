#include "core/convert/restored_form.hpp"
#include "core/convert/kept_form.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/base/workers.hpp"
#include "core/checkpoint/config_text.hpp"
#include "core/checkpoint/folder_names.hpp"
#include "core/convert/restored_weight.hpp"
#include "core/io/digest.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/writer.hpp"

namespace bv::convert {
namespace fs = std::filesystem;

/// Values of quantised weights as tensors that are made.
class RestoredStore : public io::TensorStore {
 public:
  void add(TensorSpec spec, std::unique_ptr<const RestoredValues> values) {
    std::string name = spec.name;
    made_.emplace(std::move(name), Made{std::move(spec), std::move(values)});
  }
  [[nodiscard]] const RestoredValues& values(const std::string& tensor) const {
    return *made_.find(tensor)->second.values;
  }
  [[nodiscard]] const TensorSpec* find(std::string_view tensor) const override {
    const auto found = made_.find(tensor);
    return found == made_.end() ? nullptr : &found->second.spec;
  }
  [[nodiscard]] Headers headers() const override {
    Headers out;
    for (const auto& [name, made] : made_) {
      out.emplace(name, made.spec);
    }
    return out;
  }
  [[nodiscard]] std::vector<io::Chunk> chunks(const TensorSpec& tensor) const override {
    return {{Shape(tensor.shape.size(), 0), tensor.shape, {}, &values(tensor.name)}};
  }
  [[nodiscard]] const std::vector<fs::path>& files() const override { return files_; }
  [[nodiscard]] std::uint64_t total_bytes() const override {
    std::uint64_t out = 0;
    for (const auto& [name, made] : made_) {
      out += tensor_bytes(made.spec);
    }
    return out;
  }
  [[nodiscard]] Status unchanged() const override {
    for (const auto& [name, made] : made_) {
      BV_CHECK(made.values->unchanged());
    }
    return Done{};
  }
  void release(std::span<const std::byte>) const override {}  // values give their shards back

 private:
  struct Made {
    TensorSpec spec;
    std::unique_ptr<const RestoredValues> values;
  };
  std::map<std::string, Made, std::less<>> made_;
  std::vector<fs::path> files_;
};

namespace {

constexpr std::int64_t kCodesBytes = std::int64_t{1} << 20;
constexpr std::size_t kWeightsNamed = 4;
constexpr const char* kPlain =
    "convert --to hf --quantised plain gives the plain weights that the shards hold; nothing was "
    "written";

/// The companions are the tensors that the manifest lists, and no others.
Status check_companions(const io::Checkpoint& companions, const checkpoint::QuantisedSide& side,
                        const std::vector<checkpoint::Dequantised>& weights) {
  std::set<std::string> wanted;
  for (const auto& [name, spec] : side.headers) {
    wanted.insert(name);
  }
  for (const checkpoint::Dequantised& one : weights) {
    wanted.erase(one.stored.name);
  }
  const Headers found = companions.headers();
  const std::string file = companions.files().front().string();
  for (const std::string& name : wanted) {
    const auto there = found.find(name);
    const TensorSpec& spec = side.headers.find(name)->second;
    if (there == found.end() || there->second != spec) {
      return fail(Code::ManifestDisagrees,
                  fmt::format("{} does not hold the companion {} of the manifest",
                              io::printable(file), io::in_quotes(name)))
          .at(file)
          .pair(there == found.end() ? "no such tensor"
                                     : fmt::format("{} {}", bv::name(there->second.dtype),
                                                   shape_text(there->second.shape)),
                fmt::format("{} {}", bv::name(spec.dtype), shape_text(spec.shape)))
          .advise(std::string("bring manifest and quantised/ of one conversion together; ") +
                  kPlain);
    }
  }
  if (found.size() != wanted.size()) {
    return fail(Code::ManifestDisagrees,
                fmt::format("{} holds other companions than the manifest", io::printable(file)))
        .at(file)
        .pair(counted(found.size(), "tensor"), counted(wanted.size(), "tensor"))
        .advise(std::string("bring manifest and quantised/ of one conversion together; ") + kPlain);
  }
  return Done{};
}

/// What became of one weight.
struct Restored {
  kinds::CodesFound codes;
  bool same = false;  // the stored tensor is the source's
};

Result<Restored> restore(const RestoredValues& values, const std::string& wanted, DType stored) {
  const std::int64_t granule = values.granule();
  const std::int64_t size = bytes(stored);
  const std::int64_t step = std::max<std::int64_t>(kCodesBytes / size / granule, 1) * granule;
  io::Digest hash;
  Restored out;
  std::vector<std::byte> made;
  for (std::int64_t at = 0; at < values.elements(); at += step) {
    const std::int64_t end = std::min(values.elements(), at + step);
    made.resize(static_cast<std::size_t>((end - at) * size));
    BV_TRY(found, values.make_counted(at, end, made.data()));
    out.codes.add(found);
    hash.add(made);
  }
  out.same = hash.hex() == wanted;
  return out;
}

/// Weights that do not come back for one cause.
struct Lost {
  std::vector<std::string> names;
  std::int64_t elements = 0;
  std::int64_t of = 0;
  void add(const std::string& name, std::int64_t count, const kinds::CodesFound& codes) {
    names.push_back(io::printable(name));
    elements += count;
    of += codes.elements;
  }
};

FolderFault fault_of(const Lost& lost, std::size_t weights, Code code, const std::string& why,
                     const std::string& wanted, const std::string& help) {
  FolderFault out;
  out.code = code;
  out.subject = lost.names.front();
  out.cases = std::ssize(lost.names);
  out.title =
      fmt::format("{} of {} {} not come back as {} stored: {}", thousands(std::ssize(lost.names)),
                  counted(weights, "quantised weight"), lost.names.size() == 1 ? "does" : "do",
                  lost.names.size() == 1 ? "it was" : "they were",
                  join(io::first_lines(lost.names, kWeightsNamed), ", "));
  out.found =
      fmt::format("{} of {} {}", thousands(lost.elements), counted(lost.of, "element"), why);
  out.wanted = wanted;
  out.help = help;
  return out;
}

std::vector<FolderFault> faults_of(const std::vector<checkpoint::Dequantised>& weights,
                                   const std::vector<Restored>& restored) {
  Lost none;
  Lost several;
  Lost other;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const Restored& one = restored[i];
    if (one.codes.none > 0) {
      none.add(weights[i].weight.name, one.codes.none, one.codes);
    } else if (!one.same && one.codes.several > 0) {
      several.add(weights[i].weight.name, one.codes.several, one.codes);
    } else if (!one.same) {
      other.add(weights[i].weight.name, one.codes.elements, one.codes);
    }
  }
  std::vector<FolderFault> out;
  if (!none.names.empty()) {
    out.push_back(fault_of(
        none, weights.size(), Code::ContentsChanged,
        "are values that no code gives with the scales of the source",
        "the value of one code for every element",
        "trained weights have no quantised form: quantise them anew, or take them plain with "
        "--accept-changed --quantised plain; nothing was written"));
  }
  if (!several.names.empty()) {
    out.push_back(fault_of(several, weights.size(), Code::ValueRuleInexact,
                           "are values that several codes give: those of the source cannot be told",
                           "the fingerprint of the stored tensor", kPlain));
  }
  if (!other.names.empty()) {
    out.push_back(fault_of(other, weights.size(), Code::ContentsChanged,
                           "have codes, and together they are another tensor than the source's",
                           "the fingerprint of the stored tensor",
                           "quantise the changed weights anew, or take them plain with "
                           "--accept-changed --quantised plain; nothing was written"));
  }
  return out;
}

std::string digest_of(const io::Checkpoint& checkpoint, const std::string& tensor) {
  const auto bytes = checkpoint.bytes(checkpoint.tensors().find(tensor)->second);
  io::Digest hash;
  for (std::size_t at = 0; at < bytes.size(); at += kCodesBytes) {
    const auto piece = bytes.subspan(at, std::min<std::size_t>(kCodesBytes, bytes.size() - at));
    hash.add(piece);
    checkpoint.release(piece);
  }
  return hash.hex();
}

}  // namespace

RestoredForm::RestoredForm(const checkpoint::MegatronFolder& source, io::Checkpoint companions)
    : source_(source),
      companions_(std::make_unique<const io::Checkpoint>(std::move(companions))),
      store_(std::make_unique<RestoredStore>()) {}

RestoredForm::RestoredForm(RestoredForm&&) noexcept = default;
RestoredForm::~RestoredForm() = default;

Result<RestoredForm> RestoredForm::open(const checkpoint::MegatronFolder& source,
                                        std::vector<OutputFile> plain) {
  const fs::path config_file = source.folder / checkpoint::kQuantisedFolder / "config.json";
  BV_TRY(text, io::read_file(config_file, checkpoint::kConfigBytesMax, Code::ConfigField));
  BV_TRY(config, checkpoint::parse_config(text, config_file.string()));
  const std::string manifest = (source.folder / checkpoint::kManifestName).string();
  auto weights = checkpoint::kept_weights(source, config, manifest);
  if (!weights) {
    Error error = std::move(weights).error();
    if (io::print_of_text(text) != source.quantised->carried.at("config.json")) {
      error.facts.push_back("quantised/config.json is not the file that convert wrote");
    }
    return error;
  }
  BV_TRY(companions, io::Checkpoint::open(source.folder / checkpoint::kCompanionsName));
  BV_CHECK(check_companions(companions, *source.quantised, *weights));
  RestoredForm out(source, std::move(companions));
  out.weights_ = std::move(*weights);
  out.headers_ = checkpoint::restored_headers(source, out.weights_);
  out.lay_out(std::move(plain));
  return out;
}

void RestoredForm::lay_out(std::vector<OutputFile> plain) {
  std::map<std::string_view, const checkpoint::Dequantised*> weight_of;
  for (const checkpoint::Dequantised& one : weights_) {
    weight_of.emplace(one.weight.name, &one);
  }
  const checkpoint::QuantisedSide& side = *source_.quantised;
  std::map<std::string, OutputFile> files;
  for (const auto& [name, metadata] : side.metadata) {
    files[name].name = name;
    files[name].metadata = metadata;
    files[name].metadata.try_emplace("format", "pt");
  }
  for (OutputFile& file : plain) {
    for (OutputTensor& tensor : file.tensors) {
      const auto weight = weight_of.find(tensor.spec.name);
      if (weight == weight_of.end()) {
        files[file.name].name = file.name;
        if (side.headers.contains(tensor.spec.name)) {  // the stored one, below
          lost_bits_.push_back(tensor.spec.name);
          continue;
        }
        files[file.name].tensors.push_back(std::move(tensor));
        continue;
      }
      const checkpoint::Dequantised& one = *weight->second;
      const auto scales = companions_->bytes(companions_->tensors().find(one.scale.name)->second);
      store_->add(one.stored, std::make_unique<RestoredValues>(
                                  kinds::Requantiser(one.form, scales, one.weight.dtype),
                                  one.stored, std::move(tensor)));
    }
  }
  for (const auto& [name, file] : side.file_of) {
    const TensorSpec& spec = side.headers.find(name)->second;
    files[file].tensors.push_back(store_->find(name) != nullptr
                                      ? as_stored(*store_, spec, store_->values(name).granule())
                                      : as_stored(*companions_, spec, 1));
  }
  for (auto& [name, file] : files) {
    outputs_.push_back(std::move(file));
  }
}

Result<std::vector<FolderFault>> RestoredForm::judge_companions(int jobs) const {
  std::map<std::string, std::vector<std::string>> written_as;
  for (const auto& [tensor, digest] : source_.quantised->digests) {
    written_as[digest].push_back(tensor);
  }
  std::vector<std::string> names;
  for (const auto& [tensor, stored] : companions_->tensors()) {
    names.push_back(tensor);
  }
  std::vector<std::string> found(names.size());
  BV_CHECK(for_each_parallel(names.size(), jobs, [&](std::size_t i) -> Status {
    found[i] = digest_of(*companions_, names[i]);
    return Done{};
  }));
  std::vector<FolderFault> out;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (found[i] == source_.quantised->digests.at(names[i])) {
      continue;
    }
    const auto holds = written_as.find(found[i]);
    const bool moved = holds != written_as.end() && holds->second.size() == 1;
    FolderFault& one = out.emplace_back();
    one.code = moved ? Code::ContentsExchanged : Code::ContentsChanged;
    one.subject = names[i];
    one.cases = 1;
    one.title = moved
                    ? fmt::format("{} of {} holds what {} held", io::printable(names[i]),
                                  checkpoint::kCompanionsName, io::printable(holds->second.front()))
                    : fmt::format("{} of {} changed since it was written", io::printable(names[i]),
                                  checkpoint::kCompanionsName);
    one.found = "another fingerprint";
    one.wanted = "the fingerprint of manifest.json";
    one.help = std::string("put the file back that convert wrote; ") + kPlain;
  }
  return out;
}

Result<std::vector<FolderFault>> RestoredForm::judge(int jobs, ProgressSink* progress) const {
  BV_TRY(companions, judge_companions(jobs));
  if (!companions.empty()) {
    return companions;
  }
  if (progress != nullptr) {
    progress->start("codes", store_->total_bytes(), weights_.size());
  }
  std::vector<Restored> restored(weights_.size());
  BV_CHECK(for_each_parallel(weights_.size(), jobs, [&](std::size_t i) -> Status {
    const TensorSpec& stored = weights_[i].stored;
    BV_TRY(one, restore(store_->values(stored.name), source_.quantised->digests.at(stored.name),
                        stored.dtype));
    restored[i] = one;
    if (progress != nullptr) {
      progress->advance(tensor_bytes(stored), 1, stored.name);
      if (progress->stop_requested()) {
        return fail(Code::Stopped, "stopped before the end").advise("run it again");
      }
    }
    return Done{};
  }));
  return faults_of(weights_, restored);
}

Status RestoredForm::check_written(const io::Digests& written) const {
  for (const auto& [tensor, wanted] : source_.quantised->digests) {
    const std::string& file = source_.quantised->file_of.at(tensor);
    const auto tensors = written.find(file);
    const auto found = tensors == written.end()
                           ? std::map<std::string, std::string>::const_iterator()
                           : tensors->second.find(tensor);
    if (tensors == written.end() || found == tensors->second.end() || found->second != wanted) {
      return fail(Code::WriteLost,
                  fmt::format("{} is not the tensor of the source", io::in_quotes(tensor)))
          .pair("another fingerprint", wanted)
          .advise("stop the program that writes into the Megatron folder, then repeat");
    }
  }
  return Done{};
}

std::string RestoredForm::note() const {
  return fmt::format(
      "{} restored: every code was found again, and all {} have the fingerprints of the source",
      counted(weights_.size(), "quantised weight"),
      counted(source_.quantised->headers.size(), "stored tensor"));
}

}  // namespace bv::convert
