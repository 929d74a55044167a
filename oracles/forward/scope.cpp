#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "oracles/forward/modules.hpp"

namespace bv::oracle::forward {

Scope Scope::whole() const {
  Scope out = *this;
  out.prefix_.clear();
  return out;
}

Scope Scope::in(std::string_view part) const {
  Scope deeper = *this;
  deeper.prefix_ += part;
  return deeper;
}

bool Scope::has(std::string_view name) const {
  return tensors_->contains(prefix_ + std::string(name));
}

at::Tensor Scope::get(std::string_view name, const std::vector<std::int64_t>& shape) const {
  const std::string full = prefix_ + std::string(name);
  const auto found = tensors_->find(full);
  if (found == tensors_->end()) {
    throw Refusal{fail(missing_, fmt::format("{} is not in {}", full, place_))
                      .pair("no such tensor", fmt::format("{} {}", full, shape_text(shape)))
                      .advise("check the names; the forward pass needs this tensor")};
  }
  if (found->second.shape != shape) {
    throw Refusal{
        fail(Code::ShapeMismatch, fmt::format("{} of {} has the wrong shape", full, place_))
            .pair(shape_text(found->second.shape), shape_text(shape))
            .advise("compare the tensor with config.json and the parallel sizes")};
  }
  if (read_ != nullptr) {
    read_->insert(full);
  }
  return to_aten(found->second, full);
}

at::Tensor Scope::either(std::string_view one, std::string_view other,
                         const std::vector<std::int64_t>& shape) const {
  return !has(one) && has(other) ? get(other, shape) : get(one, shape);
}

std::vector<std::int64_t> Scope::shape_of(std::string_view name) const {
  const auto found = tensors_->find(prefix_ + std::string(name));
  return found == tensors_->end() ? std::vector<std::int64_t>{} : found->second.shape;
}

void refuse_input(std::string message, std::string found, std::string wanted) {
  throw Refusal{fail(Code::BadValue, std::move(message))
                    .pair(std::move(found), std::move(wanted))
                    .advise("give inputs that fit config.json; probe_inputs makes such")};
}

Tensor to_tensor(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.contiguous();
  const double* values = flat.data_ptr<double>();
  return {flat.sizes().vec(), std::vector<double>(values, values + flat.numel())};
}

at::Tensor to_aten(const Tensor& tensor, std::string_view what) {
  const auto count = element_count(tensor.shape);
  if (!count || *count != static_cast<std::int64_t>(tensor.values.size())) {
    throw Refusal{
        fail(Code::ShapeMismatch, fmt::format("{} does not hold what its shape says", what))
            .pair(counted(tensor.values.size(), "value"), shape_text(tensor.shape))
            .advise("read the tensor again")};
  }
  // LibTorch takes a mutable pointer; nothing in this folder writes through it.
  return at::from_blob(const_cast<double*>(tensor.values.data()), tensor.shape, at::kDouble);
}

Result<Outputs> guarded(const std::function<Outputs()>& compute) {
  try {
    at::set_num_threads(1);
    return compute();
  } catch (const Refusal& refusal) {
    return refusal.error;
  } catch (const std::bad_alloc&) {
    throw;  // says nothing of the model
  } catch (const std::exception& thrown) {
    std::string first = thrown.what();
    if (first.find("can't allocate memory") != std::string::npos) {
      throw std::bad_alloc();  // as LibTorch tells it
    }
    first = first.substr(0, first.find('\n'));
    return fail(Code::OracleDisagrees, "the forward pass could not be computed: " + escaped(first))
        .pair("an exception of LibTorch", "tensors that fit config.json")
        .advise("check the shapes first; report this with the model's config.json");
  }
}

}  // namespace bv::oracle::forward
