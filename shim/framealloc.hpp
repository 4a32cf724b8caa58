/*
 * framealloc.hpp: framealloc.h for C++17, each pair of calls as an object. Thin: the calls themselves are C's and can be
 * mixed in. Objects that could not be had throw std::bad_alloc; nothing else throws.
 */
#ifndef FRAMEALLOC_HPP
#define FRAMEALLOC_HPP

#include <new>
#include <type_traits>
#include <utility>

#include "framealloc.h"

namespace fa {

/* A frame of the thread, as long as the object. */
class frame {
public:
	frame()
	{
		fa_frame_begin();
	}
	~frame()
	{
		fa_frame_end();
	}
	frame(const frame &) = delete;
	frame &operator=(const frame &) = delete;
};

/* Owns the pool blocks that are made while it lives. */
class guard {
public:
	guard() : guard_(fa_guard_begin())
	{
		if (!guard_)
			throw std::bad_alloc();
	}
	~guard()
	{
		(void)fa_guard_end(guard_);
	}
	guard(const guard &) = delete;
	guard &operator=(const guard &) = delete;
	/* As fa_guard_release. */
	int release(void *block) noexcept
	{
		return fa_guard_release(guard_, block);
	}

private:
	fa_guard *guard_;
};

/* A task that ends with the object. A child ends before its parent does, or is not touched any more. */
class task {
public:
	explicit task(const char *type = nullptr) : task_(fa_task_new(type))
	{
		if (!task_)
			throw std::bad_alloc();
	}
	task(task &parent, const char *type) : task_(fa_task_new_child(parent.task_, type))
	{
		if (!task_)
			throw std::bad_alloc();
	}
	~task()
	{
		end();
	}
	task(task &&other) noexcept : task_(std::exchange(other.task_, nullptr))
	{
	}
	task &operator=(task &&other) noexcept
	{
		std::swap(task_, other.task_);
		return *this;
	}
	void *alloc(size_t bytes)
	{
		void *block = fa_task_alloc(task_, bytes);
		if (!block)
			throw std::bad_alloc();
		return block;
	}
	/* As fa_task_release. */
	int release(void *block) noexcept
	{
		return fa_task_release(task_, block);
	}
	/* Before the object does. -EBUSY: it runs on another thread, and is this object's still. */
	int end() noexcept
	{
		int error = task_ ? fa_task_end(task_) : 0;
		if (error != -EBUSY)
			task_ = nullptr;
		return error;
	}
	fa_task *get() const noexcept
	{
		return task_;
	}

private:
	fa_task *task_;
};

/* One poll of a task, as long as the object. */
class poll {
public:
	explicit poll(task &of) : task_(of.get()), entered_(fa_task_enter(task_) == 0)
	{
	}
	~poll()
	{
		if (entered_)
			(void)fa_task_leave(task_);
	}
	poll(const poll &) = delete;
	poll &operator=(const poll &) = delete;
	/* False: the task runs already. */
	explicit operator bool() const noexcept
	{
		return entered_;
	}

private:
	fa_task *task_;
	bool entered_;
};

/* An await, as long as the object. */
class await {
public:
	await()
	{
		fa_await_begin();
	}
	~await()
	{
		fa_await_end();
	}
	await(const await &) = delete;
	await &operator=(const await &) = delete;
};

/* A growable array of what can be copied as bytes, in one tier. */
template <typename T> class vec {
	static_assert(std::is_trivially_copyable_v<T>, "elements are moved as bytes");
	static_assert(alignof(T) <= 16, "blocks are aligned to 16 bytes");

public:
	explicit vec(fa_tier tier) : vec_(fa_vec_in(tier, nullptr, sizeof(T)))
	{
	}
	explicit vec(task &owner) : vec_(fa_task_vec(owner.get(), sizeof(T)))
	{
	}
	~vec()
	{
		fa_vec_free(&vec_);
	}
	vec(const vec &) = delete;
	vec &operator=(const vec &) = delete;
	void push_back(const T &element)
	{
		if (fa_vec_push(&vec_, &element))
			throw std::bad_alloc();
	}
	T *begin() noexcept
	{
		return static_cast<T *>(vec_.data);
	}
	T *end() noexcept
	{
		return begin() + vec_.count;
	}
	T &operator[](size_t index) noexcept
	{
		return begin()[index];
	}
	size_t size() const noexcept
	{
		return vec_.count;
	}
	void clear() noexcept
	{
		fa_vec_clear(&vec_);
	}
	/* As fa_vec_take. */
	T *take() noexcept
	{
		return static_cast<T *>(fa_vec_take(&vec_));
	}

private:
	fa_vec vec_;
};

} // namespace fa

#endif
